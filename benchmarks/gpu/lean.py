"""Ask TensorRT's own plugin registries on a GPU, through its lean runtime, which is on the index.

python benchmarks/gpu/lean.py FOLDER LIBRARY     folder of the unpacked wheels, our plugin library

Are registries local to a runtime, does our library load, is its creator callable, and does a plan
that is none come back as an error?
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from pathlib import Path
from typing import Any

KEY = ("CstlPartGather", "2", "cstl_edge")


def main(folder: str, library: str) -> int:
    """Print what the registries say; return 1 where our creator is not where it should be."""
    sys.path.insert(0, folder)
    for path in Path(folder).glob("tensorrt_lean_libs/*.so*"):
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    trt: Any = importlib.import_module("tensorrt_lean_bindings")
    logger = trt.Logger(trt.Logger.INFO)
    first, second = trt.Runtime(logger), trt.Runtime(logger)

    def creators(owner: Any) -> list[Any]:
        keys = ("name", "plugin_version", "plugin_namespace")
        every = owner.get_plugin_registry().all_creators
        return [c for c in every if tuple(getattr(c, key, None) for key in keys) == KEY]

    print(trt.__version__, "load:", first.get_plugin_registry().load_library(library))
    here, there = creators(first), creators(second)
    print("in the runtime that loaded it:", here, "in another (expected none):", there)
    if not here or there:
        return 1
    fields = trt.PluginFieldCollection([])
    print("plugin:", here[0].create_plugin("g", fields, trt.TensorRTPhase.RUNTIME))
    print("no plan (expected None):", first.deserialize_cuda_engine(b"x" * 4096))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
