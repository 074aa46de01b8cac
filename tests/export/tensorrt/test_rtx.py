"""TensorRT-RTX parses and builds every exported graph, without a GPU.

TensorRT-RTX is of the family of TensorRT 11. Where its wheel is not installed this is skipped.
"""

import importlib.util
import json

import pytest

from cstl_edge.errors import BackendUnavailable, ExportError
from cstl_edge.export.tensorrt.build import BuildOptions, Sizes, build_engines
from cstl_edge.runtime import load

SIZES = Sizes(walkers=8, window=6, frames=12)
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="needs pip install tensorrt-rtx"
)


def rtx(**options):
    return BuildOptions(**{"target": "rtx-sm89", "sizes": SIZES} | options)


@needs_rtx
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_float32_builds_with_dynamic_profiles(folder):
    built = build_engines(folder, rtx(graphs=("frames", "head", "full")))
    place = folder / "engines" / "rtx-sm89"
    assert {p.name for p in place.iterdir()} == {
        f"{g}.plan{s}" for g in built for s in ("", ".json")
    }
    assert set(built["frames"].audit["network"]["CONVOLUTION"]) == {"FLOAT"}
    assert built["head"].audit["part_gather"] == "function body"
    record = json.loads((place / "full.plan.json").read_text())
    assert (record["library"], record["sm"], record["gpu"]) == ("tensorrt_rtx", 89, None)
    assert record["version"].startswith("1.")
    one, many = record["profiles"]  # a full window of one walker, then sizes that are free
    assert one["silhouettes"]["min"] == one["silhouettes"]["max"] == [1, 6, 16, 12]
    assert many["silhouettes"]["min"] == [1, 1, 16, 12]
    assert many["silhouettes"]["max"] == [8, 12, 16, 12]
    assert load(folder).info.backend == "onnxruntime"  # not engines of this machine's TensorRT


@needs_rtx
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("precision", "graphs"), [("fp16", ("frames", "head", "full")), ("int8", ("frames", "head"))]
)
def test_reduced_precisions_build_and_are_what_they_are_called(reduced, precision, graphs):
    built = build_engines(reduced, rtx(precision=precision, graphs=graphs))
    layers = {graph: record.audit["network"] for graph, record in built.items()}
    assert set(built) == set(graphs)
    assert all(len(record.profiles) == 2 for record in built.values())
    assert layers["head"]["MATRIX_MULTIPLY"]["HALF"] == 8  # the exported head has no more
    if precision == "fp16":
        assert set(layers["frames"]["CONVOLUTION"]) == {"HALF"}
        assert set(layers["full"]["CONVOLUTION"]) == {"HALF"}
        assert built["full"].audit["part_gather"] == "function body"
    else:
        assert layers["frames"]["QUANTIZE"]["INT8"] >= 2


@needs_rtx
def test_a_card_that_rtx_does_not_know(folder):
    with pytest.raises(ExportError, match=r"sm89.*got sm87"):
        build_engines(folder, rtx(target="rtx-sm87", graphs=("frames",)))
    assert not (folder / "engines").exists()


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is not None, reason="it is installed")
def test_missing_library_error_names_the_package(folder):
    with pytest.raises(BackendUnavailable, match="pip install tensorrt-rtx"):
        build_engines(folder, rtx(graphs=("frames",)))
