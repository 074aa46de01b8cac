"""State and identity of a Jetson board: release, power mode, clocks, power events.

Reads files and runs `nvpmodel -q`; changes nothing. Names and layouts are those of L4T 35 and 36
(Orin) and of Thor; never run on a board by us.
"""

from __future__ import annotations

import re
from typing import Any

from cstl_edge.measure.linux import SysfsTree, held_clock, held_mhz, output_of, total

DEVFREQ = "sys/class/devfreq/*"
GPU = re.compile(r"gpu|g[pvab]\d+b|gpc")  # 17000000.gpu, 17000000.ga10b, gpu-gpc-0
NVPMODEL = "usr/sbin/nvpmodel"


def l4t(tree: SysfsTree) -> str | None:
    """Return the release of Linux for Tegra, e.g. `36.4.3`; None elsewhere."""
    release = tree.text("etc/nv_tegra_release") or ""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", release)
    return f"{match[1]}.{match[2]}" if match else None


def board(tree: SysfsTree) -> str | None:
    """Return the name of the board from the device tree."""
    return tree.text("proc/device-tree/model")


def power_mode(tree: SysfsTree) -> dict[str, Any] | None:
    """Return `name` and `id` of the power mode, from `nvpmodel -q`; None elsewhere."""
    command = tree.root / NVPMODEL
    if not command.exists():
        return None
    shown = output_of(str(command), "-q") or ""
    match = re.search(r"NV Power Mode: *(\S+)\s+(\d+)\s*$", shown, re.M)
    return {"name": match[1], "id": int(match[2])} if match else None


def devfreq_mhz(tree: SysfsTree) -> dict[str, float]:
    """Return the present clocks of GPU and accelerators by name [MHz]."""
    return {path.parent.name: hz / 1e6 for path, hz in tree.numbers(f"{DEVFREQ}/cur_freq")}


def gpu_held_mhz(tree: SysfsTree) -> float | None:
    """Return the clock that the GPU is held at [MHz]; None if free or not known."""
    hz = held_clock(tree, (path for path in tree.match(DEVFREQ) if GPU.search(path.name)))
    return None if hz is None else hz / 1e6


def jetson_clocks(tree: SysfsTree) -> bool | None:
    """Tell whether `jetson_clocks` holds all clocks at their most; None where there is no L4T.

    The command that shows it needs root. Equal least and most allowed clocks show it too.
    """
    if l4t(tree) is None:
        return None
    return held_mhz(tree) is not None and gpu_held_mhz(tree) is not None


def power_events(tree: SysfsTree) -> int | None:
    """Return how often supply or current slowed the board since boot; None: not counted."""
    return total(tree, "sys/class/hwmon/hwmon*/oc*_event_cnt")
