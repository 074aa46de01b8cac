"""Fixtures of the kernel library, compiled once; skipped without nvcc or cmake."""

import os
import shutil
from pathlib import Path

import pytest

from cstl_edge.runtime.tensorrt import plugin

NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
# Whoever has TensorRT's headers compiles the plugin too; the spelling is cmake's.
HEADERS = os.environ.get("TensorRT_ROOT")  # noqa: SIM112


def pytest_collection_modifyitems(items):
    """Give every test here the time that a compiler needs on a busy machine."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    """Kernel and, where TensorRT_ROOT is set, plugin, for one architecture: that of the GPU."""
    for tool, path in {"nvcc": NVCC, "cmake": shutil.which("cmake")}.items():
        if not path:
            pytest.skip(f"compiling needs {tool}, which is not on this machine")
    return plugin.build(
        kernel_only=not HEADERS,
        architectures=(architecture(),),
        tensorrt_root=Path(HEADERS) if HEADERS else None,
        folder=tmp_path_factory.mktemp("libraries"),
    )


def architecture():
    """Return the GPU's architecture, or the oldest that is supported."""
    try:
        import torch
    except ImportError:
        return "75"
    if not torch.cuda.is_available():
        return "75"
    return "".join(map(str, torch.cuda.get_device_capability()))
