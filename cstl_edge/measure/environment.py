"""TODO."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from cstl_edge.measure import jetson, nvml
from cstl_edge.measure.linux import Tree

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


VECTORS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "sve2", "sve", "asimd")


PACKAGES = (
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnx",
    "openvino",
    "torch",
    "tensorrt",
    "opencv-python-headless",
    "opencv-python",
)


def environment() -> dict[str, Any]:
    """Return what a figure depends on: processor, cores, load, versions, commit.

    Where there are such: `driver`, `gpus` of NVIDIA; `board`, `l4t`, `power_mode` of a Jetson.
    """
    from cstl_edge.measure.environment import devices, in_container

    cpu, vector = _cpu()
    return {
        "cpu": cpu,
        "vector": vector,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "container": in_container(),
        "python": platform.python_version(),
        "packages": {name: v for name in PACKAGES if (v := _version(name))},
        **devices(),
        "commit": _commit(),
        "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> tuple[str, frozenset[str]]:
    """Return the processor's name and its instructions, as Linux lists them; none elsewhere.

    Virtual machines often hide the model: then only the instructions tell two machines apart.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = {
        key.strip().lower(): text.strip() for key, _, text in (x.partition(":") for x in lines)
    }
    flags = found.get("flags", found.get("features", "")).split()
    name = found.get("model name") or platform.processor() or "unknown"
    return name, frozenset(flags)


def _cpu() -> tuple[str, str]:
    """Return the processor's name and its widest vector instructions of VECTORS."""
    name, flags = processor()
    return name, next((flag for flag in VECTORS if flag in flags), "unknown")


def _commit() -> str | None:
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
