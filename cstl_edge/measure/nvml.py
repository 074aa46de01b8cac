"""Clocks, temperature, throttling and settings of an NVIDIA GPU from NVML. Changes nothing."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

NODES = ("/dev/nvidiactl", "/dev/dxg")
"""Device nodes of a loaded driver: Linux, and Linux within Windows."""
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
"""Reasons that make a sample void. A power limit is the card's working state: a warning."""


class NvmlGpu:
    """One GPU; values that it or its driver does not report are absent."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        """Take the bindings (`pynvml`) and the device's handle of theirs."""
        self._nvml = nvml
        self._handle = handle

    def read(self) -> dict[str, Any]:
        """Return clocks [MHz], temperature [°C], reasons for low clocks, and how many processes."""
        others = self._ask("DeviceGetComputeRunningProcesses")
        return _without_none(
            mhz=self._ask("DeviceGetClockInfo", 1),  # streaming multiprocessors
            memory_mhz=self._ask("DeviceGetClockInfo", 2),
            temperature_c=self._ask("DeviceGetTemperature", 0),
            limited_by=[text for bit, text in REASONS.items() if self._reasons() & bit],
            processes=None if others is None else len(others),
        )

    def settings(self) -> dict[str, Any]:
        """Return name, driver, largest clock, and settings: persistence, power limit [W], MIG."""
        limit_mw = self._ask("DeviceGetPowerManagementLimit")
        mig = self._ask("DeviceGetMigMode")
        persistence = self._ask("DeviceGetPersistenceMode")
        return _without_none(
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
        """Return the bits of REASONS; drivers before 535 have the older name of the call."""
        for name in ("DeviceGetCurrentClocksEventReasons", "DeviceGetCurrentClocksThrottleReasons"):
            bits = self._ask(name)
            if bits is not None:
                return int(bits)
        return 0

    def _ask(self, name: str, *more: int) -> Any:
        """Return the answer of an NVML call; None where it has none."""
        try:
            return getattr(self._nvml, f"nvml{name}")(self._handle, *more)
        except (AttributeError, self._nvml.NVMLError):
            return None


@lru_cache(maxsize=1)
def first_gpu() -> NvmlGpu | None:
    """Return the GPU that CUDA would take: the first of CUDA_VISIBLE_DEVICES, or of all.

    None without a GPU, its driver, or `pynvml`.
    """
    if not any(Path(node).exists() for node in NODES):
        return None  # saves an import of 30 ms
    try:
        import pynvml

        pynvml.nvmlInit()
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None
    return visible_gpu(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES", "0"))


def visible_gpu(nvml: Any, visible: str) -> NvmlGpu | None:
    """Return the first GPU of a list of numbers or UUIDs in the form of CUDA_VISIBLE_DEVICES."""
    name = visible.split(",")[0].strip()
    try:
        if name.isdigit():
            return NvmlGpu(nvml, nvml.nvmlDeviceGetHandleByIndex(int(name)))
        return NvmlGpu(nvml, nvml.nvmlDeviceGetHandleByUUID(name)) if name else None
    except nvml.NVMLError:
        return None


def _without_none(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _text(value: Any) -> str | None:
    """Return a string; older bindings give bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
