"""Energy counters: of a discrete NVIDIA GPU through NVML, of a PC's processor through powercap."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from cstl_edge.bench.power.base import meter_lost, read_number
from cstl_edge.errors import SourceUnavailable, one_line
from cstl_edge.measure.linux import SysfsTree

POWERCAP = "sys/class/powercap"


class NvmlMeter:
    """The first NVIDIA GPU: its energy counter [mJ] where it has one, else its power [mW]."""

    kind: Literal["watts", "joules"]

    def __init__(self, library: Any = None) -> None:
        """Open NVML (SourceUnavailable where there is none); `library` stands for `pynvml`."""
        try:
            self._nvml = library or importlib.import_module("pynvml")
            self._nvml.nvmlInit()
        except ImportError as err:
            raise SourceUnavailable("NVML: pip install nvidia-ml-py") from err
        except self._nvml.NVMLError as err:
            raise SourceUnavailable(f"NVML is not on this machine: {one_line(err)}") from err
        try:
            self._gpu = self._nvml.nvmlDeviceGetHandleByIndex(0)
        except self._nvml.NVMLError as err:
            self.close()
            raise SourceUnavailable(f"NVML finds no GPU: {one_line(err)}") from err
        try:
            self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu)
            self.kind, self.name = "joules", "NVML energy counter"
        except self._nvml.NVMLError:  # before Volta, and on boards
            self.kind, self.name = "watts", "NVML power"
        self.scopes: dict[str, Sequence[str]] = {"gpu": ("gpu",)}

    def read(self) -> dict[str, float]:
        """Return energy [J] or power [W] of the GPU."""
        counter = self.kind == "joules"
        query = "nvmlDeviceGetTotalEnergyConsumption" if counter else "nvmlDeviceGetPowerUsage"
        try:
            return {"gpu": getattr(self._nvml, query)(self._gpu) / 1e3}
        except self._nvml.NVMLError as err:
            raise SourceUnavailable(
                f"{self.name} does not answer ({one_line(err)}): run `power` again"
            ) from err

    def close(self) -> None:
        """Shut NVML down."""
        self._nvml.nvmlShutdown()


class RaplMeter:
    """A PC's processor packages: counters [µJ] that begin anew at their range."""

    name = "powercap energy counters"
    kind: Literal["joules"] = "joules"

    def __init__(self, root: Path) -> None:
        """Find the packages (SourceUnavailable where they cannot be read)."""
        zones = sorted((root / POWERCAP).glob("intel-rapl:[0-9]*"))  # AMD's are named so too
        packages = [zone for zone in zones if zone.name.count(":") == 1 and _is_package(zone)]
        if not packages:
            raise SourceUnavailable(f"no processor package in /{POWERCAP}")
        self._files = {f"package-{i}": zone / "energy_uj" for i, zone in enumerate(packages)}
        self._ranges = {
            name: _number(path.with_name("max_energy_range_uj"))
            for name, path in self._files.items()
        }
        self._last = {name: _number(path) for name, path in self._files.items()}
        self._turns = dict.fromkeys(self._files, 0)
        self.scopes: dict[str, Sequence[str]] = {"package": tuple(self._files)}

    def read(self) -> dict[str, float]:
        """Return the energy of every package [J], counted on where a counter began anew."""
        joules = {}
        for name, path in self._files.items():
            value = _number(path)
            self._turns[name] += value < self._last[name]
            self._last[name] = value
            # It wraps after its range, so it takes range + 1 values.
            joules[name] = (value + self._turns[name] * (self._ranges[name] + 1)) / 1e6
        return joules

    def close(self) -> None:
        """Do nothing: no file stays open."""


def _is_package(zone: Path) -> bool:
    return (SysfsTree().text(zone / "name") or "").startswith("package")


def _number(path: Path) -> int:
    try:
        return read_number(path, path.read_bytes())
    except PermissionError as err:
        raise SourceUnavailable(
            f"{path} can be read by root only: sudo chmod a+r {path.parent}/energy_uj, until the "
            "next start"
        ) from err
    except OSError as err:
        raise meter_lost(f"the counter {path}", err) from err
