"""Record of the machine that a figure depends on: processor, GPUs, board, versions, commit."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from cstl_edge.measure import jetson, nvml
from cstl_edge.measure.linux import SysfsTree, output_of

DRIVER = "proc/driver/nvidia/version"
GPUS = "proc/driver/nvidia/gpus/*/information"
VECTORS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "sve2", "sve", "asimd")
PACKAGES = (
    *("numpy", "onnxruntime", "onnxruntime-gpu", "onnx", "openvino", "torch", "tensorrt"),
    *("opencv-python-headless", "opencv-python"),
)


def environment() -> dict[str, Any]:
    """Return the record, fit for JSON: processor, cores, load, versions, commit, time.

    `driver` and `gpus` of NVIDIA, `board`, `l4t` and `power_mode` of a Jetson where there are such.
    """
    name, instructions = processor()
    return {
        "cpu": name,
        "vector": next((vector for vector in VECTORS if vector in instructions), "unknown"),
        "cores": process_cores(),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "container": in_container(),
        "machine": machine_digits(),
        "python": platform.python_version(),
        "packages": {name: v for name in PACKAGES if (v := package_version(name))},
        **devices(),
        "commit": _commit(),
        "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def machine_digits(root: Path = Path("/")) -> str | None:
    """Return 8 digits that tell this machine from another of its kind, None where it has no id.

    A hash of the system's own id, from which that cannot be found again.
    """
    text = SysfsTree(root).text("etc/machine-id")
    return hashlib.sha256(f"cstl-edge {text}".encode()).hexdigest()[:8] if text else None


def processor() -> tuple[str, frozenset[str]]:
    """Return the processor's name and its instructions, as Linux lists them; none elsewhere.

    Virtual machines often hide the model: then only the instructions tell two machines apart.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    fields = {key.strip().lower(): x.strip() for key, _, x in (x.partition(":") for x in lines)}
    flags = fields.get("flags", fields.get("features", "")).split()
    name = fields.get("model name") or platform.processor() or "unknown"
    return name, frozenset(flags)


def process_cores() -> int:
    """Return how many cores this process can use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def devices(tree: SysfsTree | None = None) -> dict[str, Any]:
    """Return `driver`, `gpus`, `board`, `l4t`, `power_mode`; what is not there is absent."""
    tree = SysfsTree() if tree is None else tree
    record: dict[str, Any] = {
        "driver": driver_version(tree),
        "gpus": gpu_names(tree),
        "board": jetson.board(tree),
    }
    record |= {"l4t": jetson.l4t(tree), "power_mode": jetson.power_mode(tree)}
    return {key: value for key, value in record.items() if value}


def driver_version(tree: SysfsTree) -> str | None:
    """Return the version of NVIDIA's driver from the kernel, or else from NVML."""
    line = (tree.text(DRIVER) or "").split("\n")[0]
    match = re.search(r"Module\b.*?\s(\d+(?:\.\d+)+)\s", line)
    if match:
        return match[1]
    card = nvml.first_gpu() if _is_host(tree) else None
    return card.driver() if card else None


def gpu_names(tree: SysfsTree) -> list[str]:
    """Return the names of NVIDIA's GPUs from the kernel, or else the first from NVML."""
    texts = (tree.text(path) or "" for path in tree.match(GPUS))
    matches = (re.search(r"^Model:\s*(.+?)\s*$", text, re.M) for text in texts)
    names = [match[1] for match in matches if match]
    card = nvml.first_gpu() if not names and _is_host(tree) else None
    name = card.settings().get("name") if card else None
    return names or ([name] if name else [])


def in_container(tree: SysfsTree | None = None) -> bool:
    """Tell whether this process runs in a container, as far as its makers leave a sign."""
    tree = SysfsTree() if tree is None else tree
    signs = (".dockerenv", "run/.containerenv")
    groups = tree.text("proc/1/cgroup") or ""
    return (
        any((tree.root / sign).exists() for sign in signs)
        or re.search(r"docker|kubepods|containerd|lxc", groups) is not None
        or (_is_host(tree) and "container" in os.environ)
    )


def _is_host(tree: SysfsTree) -> bool:
    """Tell whether a tree is this machine's own, not a recorded one."""
    return tree == SysfsTree()


def package_version(package: str) -> str | None:
    """Return the version of an installed package; None for one that is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    folder = str(Path(__file__).parent)
    text = output_of("git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=12")
    return (text or "").strip() or None
