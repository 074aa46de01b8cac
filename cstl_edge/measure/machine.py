"""What a machine is: its GPUs and their driver, its board, whether we are in a container."""

from __future__ import annotations

import os
import re
from typing import Any

from cstl_edge.measure import jetson, nvml
from cstl_edge.measure.tree import Tree

DRIVER = "proc/driver/nvidia/version"
GPUS = "proc/driver/nvidia/gpus/*/information"


def devices(tree: Tree | None = None) -> dict[str, Any]:
    """Return `driver`, `gpus`, `board`, `l4t`, `power_mode`; what is not there is absent."""
    tree = Tree() if tree is None else tree
    found = {
        "driver": driver(tree),
        "gpus": gpus(tree),
        "board": jetson.board(tree),
        "l4t": jetson.l4t(tree),
        "power_mode": jetson.power_mode(tree),
    }
    return {key: value for key, value in found.items() if value}


def driver(tree: Tree) -> str | None:
    """Return the version of NVIDIA's driver: the kernel's word, or else NVML's."""
    shown = (tree.text(DRIVER) or "").split("\n")[0]
    found = re.search(r"Module\b.*?\s(\d+(?:\.\d+)+)\s", shown)
    if found:
        return found[1]
    card = nvml.gpu() if _is_here(tree) else None
    return card.driver() if card else None


def gpus(tree: Tree) -> list[str]:
    """Return the names of NVIDIA's GPUs: the kernel's word, or else NVML's first."""
    found = []
    for path in tree.match(GPUS):
        name = re.search(r"^Model:\s*(.+?)\s*$", tree.text(path) or "", re.M)
        found += [name[1]] if name else []
    card = nvml.gpu() if not found and _is_here(tree) else None
    name = card.settings().get("name") if card else None
    return found or ([name] if name else [])


def in_container(tree: Tree | None = None) -> bool:
    """Tell whether we are in a container, as far as its makers leave a sign."""
    tree = Tree() if tree is None else tree
    signs = (".dockerenv", "run/.containerenv")
    groups = tree.text("proc/1/cgroup") or ""
    return (
        any((tree.root / sign).exists() for sign in signs)
        or re.search(r"docker|kubepods|containerd|lxc", groups) is not None
        or (_is_here(tree) and "container" in os.environ)
    )


def _is_here(tree: Tree) -> bool:
    return tree == Tree()
