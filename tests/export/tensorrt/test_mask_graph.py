"""A mask network as TensorRT is to run it: bytes in, the same masks out, in either precision."""

import importlib.util
from contextlib import closing

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from mask_networks import blue_squares, student

from cstl_edge.errors import ExportError
from cstl_edge.export.tensorrt.build import BuildOptions, build_engines
from cstl_edge.export.tensorrt.mask_checks import agreement, judging_crops, rounded
from cstl_edge.export.tensorrt.mask_graph import mask_graph
from cstl_edge.runtime.masks.check import checked_mask
from cstl_edge.runtime.masks.cpu import CpuMaskNetwork

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="needs pip install tensorrt-rtx"
)


@pytest.fixture(autouse=True)
def unprobed(monkeypatch):
    monkeypatch.setattr("cstl_edge.runtime.masks.check.run_probe", lambda *_: None)


@pytest.mark.parametrize("presence", [True, False])
@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_normalisation_colours_and_layout_are_in_the_graph(tmp_path, presence, precision):
    manifest, data = checked_mask(student(tmp_path, presence))
    crops, expected = blue_squares(3)
    with closing(CpuMaskNetwork(manifest, data)) as reference:
        wanted = reference(crops)
    logits, present = rounded(manifest, data, precision)(crops)
    np.testing.assert_array_equal(logits > 0, expected)
    # without presence it follows from the mask, whose 0.9999 is 1 in half precision
    near = 1e-3 if presence or precision == "float32" else 2e-3
    np.testing.assert_allclose(present, wanted[1], atol=near)


def test_in_half_precision_all_but_both_ends_are_half():
    """The shipped network: every convolution, and no number of float32 between the Casts."""
    manifest, data = checked_mask()
    model = onnx.shape_inference.infer_shapes(
        onnx.load_model_from_string(mask_graph(manifest, data, "fp16"))
    )
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 85
    assert {types[node.output[0]] for node in convolutions} == {onnx.TensorProto.FLOAT16}
    inputs = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    assert inputs == {"crops": onnx.TensorProto.UINT8}


def test_the_shipped_network_in_float32_gives_the_same_masks_and_in_half_nearly():
    manifest, data = checked_mask()
    crops = judging_crops(manifest.input.side)[3:6]
    with closing(CpuMaskNetwork(manifest, data)) as reference:
        expected = reference(crops)
    assert (expected[1] > 0.5).any()
    session = ort.InferenceSession(mask_graph(manifest, data, "float32"))
    mask, presence = session.run(["mask", "presence"], {"crops": crops})
    np.testing.assert_allclose(mask, expected[0], atol=1e-3)
    np.testing.assert_allclose(presence, expected[1], atol=1e-5)


def test_masks_that_differ_are_refused():
    logits = np.ones((2, 64, 64), np.float32)
    present = np.ones(2, np.float32)
    shifted = np.where(np.arange(64) < 62, logits, -1)
    report = agreement("a twin", (logits, present), (logits, present), "fp16")
    assert report["iou"] == 1.0
    with pytest.raises(ExportError, match=r"agree to 0\.9688.*--graphs frames,head"):
        agreement("a twin", (shifted, present), (logits, present), "fp16")
    with pytest.raises(ExportError, match=r"presence is off by 1\.000"):
        agreement("a twin", (logits, present * 0), (logits, present), "fp16")
    with pytest.raises(ExportError, match="mask differs"):
        agreement("a twin", (logits * np.inf, present), (logits, present), "fp16")


@needs_rtx
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rtx_builds_it_beside_the_others(folder):
    built = build_engines(folder, BuildOptions(target="rtx-sm89", graphs=("mask",)))["mask"]
    assert built.precision == "fp16"
    assert built.audit["network"]["CONVOLUTION"] == {"HALF": 85}
    assert built.parity["iou"] > 0.98
    assert "rounding twin" in built.parity["against"]
