"""Timers, percentiles, the record of the machine, JSON lines. Knows no model.

Percentiles follow trtexec's rule, so that a figure of ours stands beside one of NVIDIA's: the
sample with index n - 1 - int((1 - q/100) n) of the sorted list, never an interpolation. trtexec
computes that index in single precision, and so do we: of 100 samples its p99 is the largest, for
(1 - 0.99f) 100 is 0.99999905.

Rooms: `timing` times calls, `conditions` reads the machine around them (`linux`, `jetson`, `nvml`,
`load`, by way of `tree`), `doubts` says what a figure is in doubt for.
"""

from __future__ import annotations

import json
import os
import platform
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

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


class Samples:
    """Durations in milliseconds, kept raw, by name of the stage."""

    def __init__(self) -> None:
        self.by_stage: dict[str, list[float]] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the duration of the block to `stage`."""
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            self.add(stage, (time.perf_counter_ns() - start) / 1e6)

    def add(self, stage: str, duration_ms: float) -> None:
        """Add one duration [ms] to `stage`."""
        self.by_stage.setdefault(stage, []).append(duration_ms)

    def summary(self) -> dict[str, dict[str, float]]:
        """Return `summary` of every stage."""
        return {stage: summary(samples) for stage, samples in self.by_stage.items()}


def percentile(samples: Sequence[float], q: float) -> float:
    """Return the `q`-th percentile, 0 < q <= 100, as trtexec counts it.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 50)
    2.0
    """
    if not samples:
        raise ValueError("expected at least one sample, got none")
    ordered = sorted(samples)
    n = len(ordered)
    left_out = int(_single(_single(1 - _single(_single(q) / 100)) * n))
    return ordered[max(0, n - 1 - left_out)]


def _single(x: float) -> float:
    """Return `x` rounded to single precision."""
    return float(struct.unpack("f", struct.pack("f", x))[0])


def summary(samples_ms: Sequence[float]) -> dict[str, float]:
    """Return count, mean and percentiles of durations [ms]."""
    marks = {f"p{q}_ms": round(percentile(samples_ms, q), 4) for q in (50, 90, 95, 99)}
    return {
        "count": len(samples_ms),
        "mean_ms": round(sum(samples_ms) / len(samples_ms), 4),
        **marks,
    }


def environment() -> dict[str, Any]:
    """Return what a figure depends on: processor, cores, load, versions, commit.

    Where there are such: `driver`, `gpus` of NVIDIA; `board`, `l4t`, `power_mode` of a Jetson.
    """
    from cstl_edge.measure.machine import devices, in_container

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


def append_jsonl(path: str | Path, record: Mapping[str, Any]) -> None:
    """Append one JSON object as one line, making the folder when it is missing."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


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
