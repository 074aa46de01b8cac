"""Monitor of the machine around a measurement: clocks, temperatures, settings, load, throttling.

Changes nothing, needs no root, and leaves out what a machine does not report. Keys of
`MachineMonitor.end`:

`before`, `after`   `cpu_mhz` (min, median, max over the cores), `devfreq_mhz`, `temperatures_c` by
                    name, `gpu` (`NvmlGpu.read`), `slowed_by` (cooling devices), `load_1min`
`settings`          `governor`, `cpu_held_mhz` and `gpu_held_mhz` (where clocks are held),
                    `power_mode` and `jetson_clocks` of a Jetson, `gpu` (`NvmlGpu.settings`)
`seconds`, `cores`  between the two; how many cores the process can use
`own_cores`, ...    how many cores were kept busy by whom (`linux.cores_between`)
`heat_events`       how often heat slowed the processor in between
`power_events`      how often supply or current slowed the board in between (Jetson)
"""

from __future__ import annotations

from typing import Any

from cstl_edge.measure import jetson, linux, nvml
from cstl_edge.measure.environment import process_cores
from cstl_edge.measure.linux import CpuLoad, SysfsTree, cores_between, read_load

LOW_CLOCK = 0.75
"""A clock below this share of the one it is held at is throttled."""


class MachineMonitor:
    """State of a machine (default: this one) and its discrete GPU around a measurement."""

    def __init__(self, tree: SysfsTree | None = None, gpu: nvml.NvmlGpu | None = None) -> None:
        self._tree = SysfsTree() if tree is None else tree
        self._gpu = gpu
        self._heat = linux.heat_events(self._tree)
        self._held_mhz = linux.held_mhz(self._tree)
        self._start: tuple[CpuLoad, dict[str, Any], dict[str, int]] | None = None

    def begin(self) -> None:
        """Read the state before a measurement."""
        self._start = (read_load(self._tree), self.read(), self._events())

    def end(self) -> dict[str, Any]:
        """Return the state before and after, and what happened in between."""
        if self._start is None:
            raise ValueError("expected `begin` before `end`")
        start, before, events = self._start
        now = read_load(self._tree)
        counted = {key: x - events[key] for key, x in self._events().items() if key in events}
        return {
            "before": before,
            "after": self.read(),
            "settings": self.settings(),
            "seconds": round(now.at_s - start.at_s, 3),
            "cores": process_cores(),
            **cores_between(start, now),
            **counted,
        }

    def read(self) -> dict[str, Any]:
        """Return the present values of what changes by itself."""
        return _without_empty(
            cpu_mhz=linux.clocks_mhz(self._tree),
            devfreq_mhz=jetson.devfreq_mhz(self._tree),
            temperatures_c=linux.temperatures_c(self._tree),
            gpu=self._gpu and self._gpu.read(),
            slowed_by=linux.slowed_by(self._tree),
            load_1min=_load_1min(self._tree),
        )

    def settings(self) -> dict[str, Any]:
        """Return the settings that somebody chose."""
        return _without_empty(
            governor=linux.governor(self._tree),
            cpu_held_mhz=linux.held_mhz(self._tree),
            gpu_held_mhz=jetson.gpu_held_mhz(self._tree),
            power_mode=jetson.power_mode(self._tree),
            jetson_clocks=jetson.jetson_clocks(self._tree),
            gpu=self._gpu and self._gpu.settings(),
        )

    def throttled(self, device: bool) -> bool:
        """Tell whether the machine was slowed down since the last call.

        By heat (counted by the kernel, or a cooling device at work) or, where clocks are held, by
        one below LOW_CLOCK of that; where a governor is free to choose, a low clock is its choice.
        device: Whether a GPU computed, so that its state counts too.
        """
        before, self._heat = self._heat, linux.heat_events(self._tree)
        heated = before is not None and self._heat is not None and self._heat > before
        slowing = (x for x in linux.slowed_by(self._tree) if device or not jetson.GPU.search(x))
        return (
            heated
            or any(slowing)
            or self._below_held()
            or (device and self._gpu is not None and self._gpu.slowed())
        )

    def _below_held(self) -> bool:
        if self._held_mhz is None:
            return False
        return linux.clocks_mhz(self._tree).get("min", self._held_mhz) < LOW_CLOCK * self._held_mhz

    def _events(self) -> dict[str, int]:
        return _without_empty(
            heat_events=linux.heat_events(self._tree), power_events=jetson.power_events(self._tree)
        )


def host_monitor() -> MachineMonitor:
    """Return a monitor of this machine."""
    return MachineMonitor(SysfsTree(), nvml.first_gpu())


def _load_1min(tree: SysfsTree) -> float | None:
    fields = (tree.text("proc/loadavg") or "").split()
    return float(fields[0]) if fields else None


def _without_empty(**values: Any) -> dict[str, Any]:
    """Return the values without None and without what is empty."""
    return {x: value for x, value in values.items() if value is not None and value not in ({}, [])}
