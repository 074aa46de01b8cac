"""Report of this machine: what is there, what will be used, how to get what is missing."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from cstl_edge.errors import BackendUnavailable, CstlEdgeError
from cstl_edge.extras import install_command

TESTED_PYTHONS = ("3.10", "3.11", "3.12", "3.13")  # by .ci/run; 3.14 installs and was not run
START_TIMEOUT_S = 60.0  # for TensorRT, which loads a gigabyte of kernels
MARKS = {"ok": "✓", "missing": "–", "broken": "✗"}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    state: Literal["ok", "missing", "broken"]  # `missing` is optional and not there
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return the line for people."""
        remedy = f" → {self.remedy}" if self.remedy else ""
        return f"{MARKS[self.state]} {self.what}: {self.detail}{remedy}"


@dataclass(frozen=True)
class DoctorReport:
    """Findings and environment, to paste into an issue."""

    cstl_edge: str  # version of the package
    environment: dict[str, Any]
    findings: list[Finding]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the lines for people."""
        return [f"cstl_edge {self.cstl_edge}, {self.environment['cpu']}", *map(str, self.findings)]


def examine() -> list[Finding]:
    """Check everything that the package can use on this machine."""
    probes = [
        _python, _numpy, _cv2, _pyav, _onnxruntime, _openvino, _model, _masks, _gstreamer, _cameras,
        _torch, _gpu, _tensorrt, _jetson,
    ]  # fmt: skip
    return [*map(_safely, probes), *_tables()]


def report() -> DoctorReport:
    """Return the findings and the environment."""
    from cstl_edge import __version__
    from cstl_edge.measure.environment import environment

    return DoctorReport(__version__, environment(), examine())


def _safely(probe: Callable[[], Finding]) -> Finding:
    try:
        return probe()
    except (CstlEdgeError, ImportError, OSError) as err:
        return Finding(probe.__name__.strip("_"), "broken", str(err))


def _optional(subject: str, detail: str | None, remedy: str = "", without: str = "") -> Finding:
    """Return the finding of something that may be missing; `without`: what missing it means."""
    if detail:
        return Finding(subject, "ok", detail)
    return Finding(subject, "missing", without, remedy)


def _version(package: str) -> str | None:
    """Return the version of a package without importing it, None where it is not installed."""
    return metadata.version(package) if find_spec(package) else None


def _python() -> Finding:
    version = platform.python_version()
    detail = f"{version} {platform.machine()}, tested are {', '.join(TESTED_PYTHONS)}"
    return Finding("python", "ok", detail)


def _numpy() -> Finding:
    import numpy as np

    return Finding("numpy", "ok", np.__version__)


def _cv2() -> Finding:
    if find_spec("cv2") is None:
        remedy = f"{install_command('cv')}; on a Jetson use the system's python3-opencv"
        return Finding("cv2", "broken", "not installed", remedy)
    import cv2

    gstreamer = any("GStreamer" in x and "YES" in x for x in cv2.getBuildInformation().splitlines())
    version = tuple(int(x) for x in cv2.__version__.split(".")[:2])
    if version >= (4, 13):
        remedy = 'pip install "opencv-python-headless>=4.10,<4.13"'
        return Finding("cv2", "broken", f"{cv2.__version__} aborts on some AVI files", remedy)
    return Finding("cv2", "ok", f"{cv2.__version__}, GStreamer {'yes' if gstreamer else 'no'}")


def _onnxruntime() -> Finding:
    import onnxruntime as ort

    providers = ", ".join(ort.get_available_providers())
    return Finding("onnxruntime", "ok", f"{ort.__version__}: {providers}")


def _openvino() -> Finding:
    remedy = "pip install openvino, for backend 'openvino'"
    return _optional("openvino", _version("openvino"), remedy, "not needed, ONNX Runtime serves")


def _model() -> Finding:
    from cstl_edge.runtime import load

    encoder = load()
    info = encoder.info
    encoder.close()
    detail = f"{info.model_name} on {info.backend} ({info.provider}, {info.precision})"
    return Finding("default model", "ok", f"{detail}, {info.threads} threads")


def _gstreamer() -> Finding:
    from cstl_edge.live.sources.gstreamer import has_gstreamer

    remedy = "apt install gstreamer1.0-plugins-base, for csi:// and gst: sources"
    return _optional("gstreamer", "its C library" if has_gstreamer() else None, remedy)


def _pyav() -> Finding:
    remedy = f"{install_command('video')}, for interlaced and mirrored video"
    return _optional("pyav", _version("av"), remedy, "not needed, cv2 reads video")


def _cameras() -> Finding:
    devices = sorted(str(path) for path in Path("/dev").glob("video*"))
    return _optional("cameras", ", ".join(devices), "plug in a camera, or use a file or rtsp://")


def _torch() -> Finding:
    remedy = f"{install_command('train')}, only to train or export"
    return _optional("torch", _version("torch"), remedy, "not needed at the edge")


def _gpu() -> Finding:
    path = shutil.which("nvidia-smi")
    return _optional("NVIDIA GPU", path, "runs on the CPU without one", "no nvidia-smi")


def _tensorrt() -> Finding:
    from cstl_edge.runtime.cuda.open import open_buffers
    from cstl_edge.runtime.tensorrt.library import import_tensorrt, plugin_library

    try:
        trt = import_tensorrt()
        buffers = open_buffers()
    except BackendUnavailable as err:
        return Finding("tensorrt", "missing", "ONNX Runtime serves", str(err))
    try:
        gpu = buffers.gpu()
    finally:
        buffers.close()
    if fault := _tensorrt_fault():
        detail = f"{trt.__version__} on {gpu.name} (sm_{gpu.sm}): {fault}"
        return Finding("tensorrt", "broken", detail, "ONNX Runtime serves meanwhile")
    library = plugin_library(trt)
    remedy = "" if library else "the function body serves; cstl-edge plugin build makes the kernel"
    plugin = f"plugin {'built' if library else 'not built'}"
    detail = f"{trt.__version__} on {gpu.name} (sm_{gpu.sm}), {buffers.name}, {plugin}"
    return Finding("tensorrt", "ok", detail, remedy)


def _tensorrt_fault() -> str | None:
    """Return why TensorRT does not start, None where it does; in a child, for it may crash."""
    code = "from cstl_edge.runtime.tensorrt import library; library.main()"
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it does not start within {START_TIMEOUT_S:g} s"
    if done.returncode < 0:
        return f"it ends the process (signal {-done.returncode})"
    return (done.stdout.strip() or done.stderr.strip()[-300:]) if done.returncode else None


def _jetson() -> Finding:
    release = Path("/etc/nv_tegra_release")
    text = release.read_text(encoding="utf-8").splitlines()[0] if release.exists() else None
    return _optional("Jetson", text, without="not a Jetson")


def _masks() -> Finding:
    """Return how many people the segmenter `auto` has time for at a camera."""
    from cstl_edge.live.pipeline.run import SEGMENTER_THREADS
    from cstl_edge.live.segmentation.auto import people_in_time
    from cstl_edge.live.segmentation.open import WALKER_FPS
    from cstl_edge.runtime.base import usable_cores

    fps = 25.0
    people, crop_s = people_in_time(fps, min(SEGMENTER_THREADS, usable_cores()))
    text = (
        f"about {people:.1f} people masked by the network in every frame at {fps:.0f} frames per "
        f"second ({crop_s * 1e3:.1f} ms each, now), {people * fps / WALKER_FPS:.1f} at the "
        f"{WALKER_FPS:g} times per second that a walker is masked by default; of more, auto masks "
        "some in turn"
    )
    return Finding("person masks", "ok", text)


def _tables() -> list[Finding]:
    """Return the names in the tables of implementations, those of other packages included."""
    from cstl_edge.live.segmentation.open import SEGMENTERS
    from cstl_edge.live.sources.open import SOURCES
    from cstl_edge.runtime.load import BACKENDS

    tables = {"backends": BACKENDS, "segmenters": SEGMENTERS, "sources": SOURCES}
    return [Finding(name, "ok", ", ".join(table)) for name, table in tables.items()]
