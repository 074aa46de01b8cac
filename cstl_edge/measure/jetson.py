"""What a Jetson tells of itself. Reads files and asks `nvpmodel -q`; changes nothing.

Names and layouts are those of L4T 35 and 36 (Orin) and of Thor; never run on a board by us.
"""

from __future__ import annotations

import re
import subprocess
from typing import Any

from cstl_edge.measure.linux import Tree, held_mhz

DEVFREQ = "sys/class/devfreq/*"
GPU = re.compile(r"gpu|g[pvab]\d+b|gpc")  # 17000000.gpu, 17000000.ga10b, gpu-gpc-0
NVPMODEL = "usr/sbin/nvpmodel"


def l4t(tree: Tree) -> str | None:
    """Return the release of Linux for Tegra, e.g. `36.4.3`; None elsewhere."""
    shown = tree.text("etc/nv_tegra_release") or ""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", shown)
    return f"{found[1]}.{found[2]}" if found else None


def board(tree: Tree) -> str | None:
    """Return the name of the board, as the device tree gives it."""
    return tree.text("proc/device-tree/model")


def power_mode(tree: Tree) -> dict[str, Any] | None:
    """Return `name` and `id` of the power mode, as `nvpmodel -q` tells them; None elsewhere."""
    command = tree.root / NVPMODEL
    if not command.exists():
        return None
    try:
        done = subprocess.run(
            [str(command), "-q"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    found = re.search(r"NV Power Mode: *(\S+)\s+(\d+)\s*$", done.stdout, re.M)
    return {"name": found[1], "id": int(found[2])} if found else None


def devfreq_mhz(tree: Tree) -> dict[str, float]:
    """Return the present clocks of GPU and accelerators by name [MHz]."""
    return {path.parent.name: hz / 1e6 for path, hz in tree.numbers(f"{DEVFREQ}/cur_freq")}


def gpu_held_mhz(tree: Tree) -> float | None:
    """Return the clock that the GPU is held at [MHz]; None if free or not known."""
    gpus = [path for path in tree.match(DEVFREQ) if GPU.search(path.name)]
    pairs = [(tree.number(x / "min_freq"), tree.number(x / "max_freq")) for x in gpus]
    if not pairs or any(low is None or low != high for low, high in pairs):
        return None
    return max(high for _, high in pairs if high is not None) / 1e6


def jetson_clocks(tree: Tree) -> bool | None:
    """Tell whether `jetson_clocks` holds all clocks at their most; None where there is no L4T.

    The command that shows it needs root; that least and most allowed are the same shows it too.
    """
    if l4t(tree) is None:
        return None
    return held_mhz(tree) is not None and gpu_held_mhz(tree) is not None


def power_events(tree: Tree) -> int | None:
    """Return how often supply or current slowed the board since boot; None: not counted."""
    found = [value for _, value in tree.numbers("sys/class/hwmon/hwmon*/oc*_event_cnt")]
    return sum(found) if found else None
