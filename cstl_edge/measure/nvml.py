"""Clocks, temperature, throttling and settings of an NVIDIA GPU by NVML. Changes nothing."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

NODES = ("/dev/nvidiactl", "/dev/dxg")
"""Of a driver that is there: Linux, and Linux within Windows."""
REASONS = {
    0x02: "set by the user",
    0x04: "power limit",
    0x08: "hardware slowdown",
    0x10: "sync boost",
    0x20: "heat",
    0x40: "heat, hardware",
    0x80: "power brake",
    0x100: "display",
}
"""Why the clocks are not higher; 0x01 is an idle GPU."""
SLOWED = 0x08 | 0x20 | 0x40 | 0x80
"""Those that make a sample void. A power limit is the state in which the card works: a warning."""


class Gpu:
    """One GPU; what it or its driver does not tell is absent."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    def read(self) -> dict[str, Any]:
        """Return clocks [MHz], temperature [°C], why they are not higher, and who computes."""
        others = self._ask("DeviceGetComputeRunningProcesses")
        return _present(
            mhz=self._ask("DeviceGetClockInfo", 1),  # streaming multiprocessors
            memory_mhz=self._ask("DeviceGetClockInfo", 2),
            temperature_c=self._ask("DeviceGetTemperature", 0),
            limited_by=[text for bit, text in REASONS.items() if self._reasons() & bit],
            processes=None if others is None else len(others),
        )

    def settings(self) -> dict[str, Any]:
        """Return what somebody chose: persistence, power limit [W], MIG; and the largest clock."""
        limit_mw = self._ask("DeviceGetPowerManagementLimit")
        mig = self._ask("DeviceGetMigMode")
        persistence = self._ask("DeviceGetPersistenceMode")
        return _present(
            name=_text(self._ask("DeviceGetName")),
            driver=self.driver(),
            most_mhz=self._ask("DeviceGetMaxClockInfo", 1),
            persistence=None if persistence is None else bool(persistence),
            power_limit_w=None if limit_mw is None else limit_mw / 1e3,
            mig=None if mig is None else bool(mig[0]),
        )

    def driver(self) -> str | None:
        """Return the version of the driver."""
        try:
            return _text(self._nvml.nvmlSystemGetDriverVersion())
        except self._nvml.NVMLError:
            return None

    def slowed(self) -> bool:
        """Tell whether heat or a brake holds the clocks down at this moment."""
        return bool(self._reasons() & SLOWED)

    def _reasons(self) -> int:
        """Return the bits of REASONS; drivers before 535 know them by their older name."""
        for name in ("DeviceGetCurrentClocksEventReasons", "DeviceGetCurrentClocksThrottleReasons"):
            found = self._ask(name)
            if found is not None:
                return int(found)
        return 0

    def _ask(self, name: str, *more: int) -> Any:
        """Return what NVML answers; None where it has no answer."""
        try:
            return getattr(self._nvml, f"nvml{name}")(self._handle, *more)
        except (AttributeError, self._nvml.NVMLError):
            return None


@lru_cache(maxsize=1)
def gpu() -> Gpu | None:
    """Return the GPU that CUDA would take; None without one, its driver, or `pynvml`.

    That is the first of CUDA_VISIBLE_DEVICES, or the first of all.
    """
    if not any(Path(node).exists() for node in NODES):
        return None  # spares an import of 30 ms
    try:
        import pynvml

        pynvml.nvmlInit()
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None
    return first(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES", "0"))


def first(nvml: Any, visible: str) -> Gpu | None:
    """Return the first GPU of a list of numbers or UUIDs, as CUDA_VISIBLE_DEVICES has them."""
    name = visible.split(",")[0].strip()
    try:
        if name.isdigit():
            return Gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(int(name)))
        return Gpu(nvml, nvml.nvmlDeviceGetHandleByUUID(name)) if name else None
    except nvml.NVMLError:
        return None


def _present(**found: Any) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value is not None}


def _text(found: Any) -> str | None:
    """Return a string; older bindings give bytes."""
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else found
