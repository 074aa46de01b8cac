"""TensorRT-RTX parses and builds every exported graph, without a GPU.

TensorRT-RTX is of the family of TensorRT 11. Where its wheel is not installed this is skipped.
"""

import importlib
import importlib.util
import json

import pytest

from cstl_edge.errors import BackendUnavailable, ConfigError, ExportError
from cstl_edge.export.tensorrt.build import BuildOptions, build_engines
from cstl_edge.export.tensorrt.builder import RTX, PlanRequest, build_plan
from cstl_edge.export.tensorrt.sources import Sizes, profiles
from cstl_edge.runtime import load
from cstl_edge.runtime.manifest import Shape

SIZES = Sizes(walkers=8, window=6, frames=12)
PAPER = {}
OU_MVLP = {"widths": (64, 128, 256, 256), "embedding": 512}
WORKSPACE_BYTES = 256 * 2**20
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
    live, long = record["profiles"]  # up to the window, then few sequences of any length
    assert live["silhouettes"]["min"] == long["silhouettes"]["min"] == [1, 1, 16, 12]
    assert live["silhouettes"]["max"] == [8, 6, 16, 12]
    assert long["silhouettes"]["max"] == [4, 12, 16, 12]
    assert load(folder).info.backend == "onnxruntime"  # not engines of this machine's TensorRT


@needs_rtx
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fp16_builds_and_is_what_it_is_called(reduced):
    graphs = ("frames", "head", "full")
    built = build_engines(reduced, rtx(precision="fp16", graphs=graphs))
    layers = {graph: record.audit["network"] for graph, record in built.items()}
    assert set(built) == set(graphs)
    assert all(len(record.profiles) == 2 for record in built.values())
    assert layers["head"]["MATRIX_MULTIPLY"]["HALF"] == 8  # the exported head has no more
    assert set(layers["frames"]["CONVOLUTION"]) == {"HALF"}
    assert set(layers["full"]["CONVOLUTION"]) == {"HALF"}
    assert built["full"].audit["part_gather"] == "function body"


def test_int8_is_refused_for_rtx_cards():
    with pytest.raises(ConfigError, match="more kernels of it than of fp16"):
        rtx(precision="int8")


@needs_rtx
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("config", "half"),
    [(PAPER, False), (PAPER, True), (OU_MVLP, True)],
    ids=["paper, float32", "paper, fp16", "OU-MVLP, fp16"],
)
def test_heads_of_the_papers_widths_build_in_a_small_workspace(config, half):
    """With one profile of 32 walkers of 240 frames they needed more than a gigabyte."""
    torch = pytest.importorskip("torch")
    from cstl_edge.export.graphs import build_graph
    from cstl_edge.export.quantization.fp16 import to_half
    from cstl_edge.model import Cstl, CstlConfig

    torch.manual_seed(0)
    network = Cstl(CstlConfig(**config)).fused()
    graph = build_graph(network, "head")
    model = to_half(graph) if half else graph
    shape = Shape.model_validate(network.config.to_dict())
    workspace = {"workspace_bytes": WORKSPACE_BYTES, "sm": 89}
    request = PlanRequest(RTX, profiles("head", shape, Sizes()), **workspace)
    built = build_plan(
        importlib.import_module(RTX), model.SerializeToString(), request, lambda *_: True
    )
    assert len(built.plan) > 2**20


def test_sm75_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match=r"no head for sm75.*float32"):
        rtx(target="rtx-sm75")


@needs_rtx
def test_a_card_that_rtx_does_not_know(folder):
    with pytest.raises(ExportError, match=r"sm80.*sm89.*got sm87") as refused:
        build_engines(folder, rtx(target="rtx-sm87", graphs=("frames",)))
    assert "sm75" not in str(refused.value)
    assert not (folder / "engines").exists()


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is not None, reason="it is installed")
def test_missing_library_error_names_the_package(folder):
    with pytest.raises(BackendUnavailable, match="pip install tensorrt-rtx"):
        build_engines(folder, rtx(graphs=("frames",)))
