"""Power rails of a Jetson: INA3221 and INA238 chips through hwmon, read without root.

A chip's folder has for its channel k `ink_label`, `ink_input` [mV], `currk_input` [mA]; an INA238
has one channel, its power in `power1_input` [µW], and often no label. Labels as NVIDIA's device
trees write them; what the rails of a board sum up to is public for Orin Nano and NX (VDD_IN is the
module's input), and our reading of its documents for AGX Orin (memory, VDDQ_VDD2_1V8AO, is fed by
VIN_SYS_5V0 and not added) and Thor (VIN is the carrier's input, with all that hangs on it). None of
it was run on a board.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from cstl_edge.bench.power.base import meter_lost, read_number
from cstl_edge.errors import DataError, SourceUnavailable, one_line
from cstl_edge.measure.linux import SysfsTree

HWMON = "sys/class/hwmon"
CHIPS = ("ina3221", "ina3221x", "ina238")
UNUSED = {"", "NC", "sum of shunt voltages"}
MOST_WATTS = 1000.0  # beyond it a reading is no rail of a Jetson
SCOPES: tuple[Mapping[str, Sequence[str]], ...] = (
    {"module": ("VDD_IN",), "gpu": ("VDD_CPU_GPU_CV",), "soc": ("VDD_SOC",)},
    {
        "module": ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
        "gpu": ("VDD_GPU_SOC",),
        "cpu": ("VDD_CPU_CV",),
    },
    {
        "module": ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),
        "gpu": ("VDD_GPU",),
        "cpu": ("VDD_CPU_SOC_MSS",),
        "carrier": ("VIN",),
    },
)
"""By board: Orin Nano and NX (CPU, GPU and CV share a rail), AGX Orin (GPU and SoC share one),
Thor. A board has those whose rails are all there; the first with a module is taken."""


Channels = dict[str, tuple[Path, ...]]  # by label of the rail the files whose product is its µW


class RailMeter:
    """Meter of this board's rails."""

    name = "INA3221/INA238 rails through sysfs"
    kind: Literal["watts"] = "watts"

    def __init__(self, channels: Channels) -> None:
        """Open the files of all channels (SourceUnavailable)."""
        self._channels = channels
        self.scopes = scopes(list(channels))
        self._open: dict[Path, int] = {}
        try:
            for path in (path for files in channels.values() for path in files):
                self._open[path] = os.open(path, os.O_RDONLY)
        except OSError as err:
            self.close()
            raise SourceUnavailable(
                f"cannot read {path}: {one_line(err.strerror)}: power rails are readable by "
                "everybody on Jetson Linux; in a container, mount /sys"
            ) from err

    def read(self) -> dict[str, float]:
        """Return the power of every rail [W], signed as its chip measures it."""
        watts = {
            label: math.prod(map(self._number, files)) / 1e6
            for label, files in self._channels.items()
        }
        for label, value in watts.items():
            if abs(value) > MOST_WATTS:
                raise DataError(
                    f"{label}: expected at most {MOST_WATTS:g} W; got {value:g}: the meter is not "
                    "used"
                )
        return watts

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open = {}

    def _number(self, path: Path) -> int:
        try:
            raw = os.pread(self._open[path], 32, 0)  # from the beginning: the kernel measures anew
        except OSError as err:
            raise meter_lost(f"the power rail {path.name} of {path.parent.name}", err) from err
        return read_number(path, raw)


def open_rails(root: Path) -> RailMeter:
    """Open the rails below a root of the file system (SourceUnavailable where there are none)."""
    channels = find_channels(root)
    if not channels:
        raise SourceUnavailable(f"no labelled channel of {', '.join(CHIPS)} in /{HWMON}")
    return RailMeter(channels)


def find_channels(root: Path) -> Channels:
    """Return the labelled channels of every chip; empty where there is none."""
    channels: Channels = {}
    for folder in sorted((root / HWMON).glob("hwmon*")):
        chip = _text(folder / "name")
        if chip in CHIPS:
            for label, files in _single(folder) if chip == "ina238" else _triple(folder):
                channels.setdefault(label, files)
    return channels


def scopes(labels: Sequence[str]) -> dict[str, Sequence[str]]:
    """Return the rails that each scope of a board sums up; all in one for an unknown board."""
    for layout in SCOPES:
        if set(layout["module"]) <= set(labels):
            return {name: rails for name, rails in layout.items() if set(rails) <= set(labels)}
    return {"rails": tuple(labels)}


def _triple(folder: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Yield the channels of an INA3221 that are wired and on."""
    for path in sorted(folder.glob("in[1-3]_label")):
        k = re.sub(r"\D", "", path.name)
        label = _text(path)
        files = (folder / f"in{k}_input", folder / f"curr{k}_input")
        on = _text(folder / f"in{k}_enable") != "0"
        if label not in UNUSED and on and all(file.exists() for file in files):
            yield label, files  # mV · mA


def _single(folder: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Yield the channel of an INA238: the board's input, where it has no label."""
    label = _text(folder / "label") or _text(folder / "in1_label") or "VIN"
    power = folder / "power1_input"
    if power.exists():
        yield label, (power,)  # µW


def _text(path: Path) -> str:
    return SysfsTree().text(path) or ""
