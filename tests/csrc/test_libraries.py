"""Compiled libraries: exported symbols, and no dependency on TensorRT."""

import shutil
import subprocess
import sys

import pytest

from cstl_edge.runtime.tensorrt import plugin

KERNEL = {"cstlPartGather", "cstlPartGatherHost", "cstlPartGatherError"}
PLUGIN = KERNEL | {"getCreators", "setLoggerFinder"}
SYSTEM = ("GLIBC", "CXXABI", "GCC")  # whose versions the undefined symbols carry


def symbols(library, which):
    """Return kind and name of the dynamic symbols of a library that nm lists."""
    if shutil.which("nm") is None:
        pytest.skip("looking at symbols needs nm, which is not on this machine")
    command = ["nm", "-D", which, library.path]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return {tuple(line.split()[-2:]) for line in done.stdout.splitlines()}


def test_exports_are_the_entry_points_alone(libraries):
    for library in libraries:
        wanted = KERNEL if library.tensorrt is None else PLUGIN
        assert {name for _, name in symbols(library, "--defined-only")} == wanted


def test_nothing_of_tensorrt_or_cuda_is_needed_at_load(libraries):
    for library in libraries:
        for kind, name in symbols(library, "--undefined-only"):
            version = name.partition("@")[2]
            assert kind.lower() == "w" or version.startswith(SYSTEM), name


def test_the_plugin_was_compiled(libraries):
    if len(libraries) == 1:
        pytest.skip("compiling the plugin needs TensorRT's headers: set TensorRT_ROOT")
    kernel, built = libraries
    assert kernel.tensorrt is None
    assert built.path.endswith(plugin.library_name(int(built.tensorrt.split(".")[0])))
    assert "as expected" in built.checked


REGISTRY = """
import sys
import tensorrt_rtx as trt

registry = trt.get_plugin_registry()
assert registry.load_library(sys.argv[1]) is not None
creator = registry.get_creator("CstlPartGather", "1", "cstl_edge")
for phase in (trt.TensorRTPhase.BUILD, trt.TensorRTPhase.RUNTIME):
    gather = creator.create_plugin("gather", trt.PluginFieldCollection([]), phase)
    kinds = trt.PluginCapabilityType
    assert all(gather.get_capability_interface(k) for k in (kinds.CORE, kinds.BUILD, kinds.RUNTIME))
"""


def test_nvidias_registry_takes_the_plugin(libraries):
    if len(libraries) == 1:
        pytest.skip("compiling the plugin needs TensorRT's headers: set TensorRT_ROOT")
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx brings a registry without a GPU")
    command = [sys.executable, "-c", REGISTRY, libraries[1].path]  # apart, for it may abort
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_records_lie_beside_the_libraries(libraries, tmp_path):
    for library in libraries:
        major = None if library.tensorrt is None else int(library.tensorrt.split(".")[0])
        folder = tmp_path / str(major)
        folder.mkdir()
        for suffix in (".so", ".json"):
            name = plugin.library_name(major).removesuffix(".so") + suffix
            shutil.copy(library.path.removesuffix(".so") + suffix, folder / name)
        assert plugin.find(major, folder).sha256 == library.sha256
        assert plugin.load(plugin.find(major, folder)).cstlPartGatherError(0) == b"no error"
        assert "plain loop" in library.checked or major is not None
