"""The smaller shipped network: lite up to its last doubling, and a filter by least squares."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from cstl_edge.errors import ModelError
from cstl_edge.runtime.masks.manifest import SHIPPED, SMALL, read_mask_manifest
from cstl_edge.runtime.masks.open import open_mask_network
from cstl_edge.training.person_mask.clips import LabelledCrop
from cstl_edge.training.person_mask.cut import (
    CHANNELS,
    FEATURES,
    SIDE,
    as_input,
    cut_graph,
    fit_last,
    framed,
    neighbourhoods,
    with_last,
)
from cstl_edge.training.person_mask.export import export_network

LITE = SHIPPED.parent / "person_mask.onnx"


@pytest.fixture(scope="module")
def trunk() -> onnx.ModelProto:
    return cut_graph(LITE)


def run(model: onnx.ModelProto, crop: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"image": as_input(crop)})[0][0]


def test_the_trunk_computes_what_lite_does(trunk) -> None:
    """The same trunk, told to take crops as large as lite's, gives lite's tensor."""
    lite, large = onnx.load(str(LITE)), onnx.ModelProto()
    lite.graph.output.append(onnx.helper.make_tensor_value_info(FEATURES, 1, None))
    large.CopyFrom(trunk)
    for value, sizes in ((large.graph.input[0], (256, 256)), (large.graph.output[0], (128, 128))):
        for axis, size in zip((2, 3), sizes, strict=True):
            value.type.tensor_type.shape.dim[axis].dim_value = size
    crop = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    session = onnxruntime.InferenceSession(lite.SerializeToString())
    rgb = crop[None, ..., ::-1].astype(np.float32) / 255
    wanted = session.run([FEATURES], {"image": rgb})[0][0]
    np.testing.assert_allclose(run(large, crop), wanted, atol=2e-3)
    small = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    assert run(trunk, small).shape == (CHANNELS, SIDE // 2, SIDE // 2)


def test_another_network_is_refused(tmp_path) -> None:
    onnx.save(onnx.load(str(SMALL.parent / "person_detector.onnx")), str(tmp_path / "other.onnx"))
    with pytest.raises(ModelError, match="expected BlazePose lite"):
        cut_graph(tmp_path / "other.onnx")


def test_the_filter_that_is_fitted_gives_the_teachers_masks(trunk) -> None:
    """A teacher that is itself such a filter is found again."""
    image = np.full((256, 256, 3), 120, np.uint8)
    cv2.ellipse(image, (128, 128), (25, 60), 0, 0, 360, (30, 40, 160), cv2.FILLED)
    blank = LabelledCrop(image, np.zeros((256, 256), np.uint8), (103, 68, 50, 120), 1.0, 0.0)
    square, _ = framed(blank)
    features = run(trunk, square)
    weights = np.random.default_rng(2).normal(size=CHANNELS * 9 + 1) * 0.05
    logits = (neighbourhoods(features) @ weights).reshape(SIDE // 2, SIDE // 2)
    logits = np.repeat(np.repeat(logits, 2, 0), 2, 1)

    mask = (255 / (1 + np.exp(-logits))).round().astype(np.uint8)
    zoom = SIDE / (1.25 * 120)
    matrix = np.array([[zoom, 0, SIDE / 2 - zoom * 128], [0, zoom, SIDE / 2 - zoom * 128]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    on_crop = cv2.warpAffine(mask, matrix, (256, 256), flags=flags)
    crop = LabelledCrop(image, on_crop, blank.box, 1.0, 0.0)
    held_out = LabelledCrop(image, 255 - on_crop, blank.box, 1.0, 14.5, held_out=True)
    network = with_last(trunk, fit_last(trunk, [crop, held_out]))
    got = run(network, square)[0]
    assert got.shape == (SIDE, SIDE)
    _, wanted = framed(crop)
    assert np.mean((got > 0) == (wanted > 127)) > 0.95


def test_the_shipped_one_is_such_a_network_with_weights_in_float16(trunk, tmp_path) -> None:
    last = np.random.default_rng(1).normal(size=(4, CHANNELS * 9 + 1)).astype(np.float32)
    manifest = export_network(with_last(trunk, last), "a", tmp_path / "a.onnx")
    shipped = read_mask_manifest(SMALL)
    assert (manifest.input, manifest.mask, manifest.presence) == (
        shipped.input,
        shipped.mask,
        shipped.presence,
    )
    crop = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    logits, _ = open_mask_network(tmp_path / "a.json")(crop[None])
    wanted = run(with_last(trunk, last), crop)[0]
    assert np.mean((logits[0] > 0) == (wanted > 0)) > 0.98
    mine, theirs = (
        onnx.load(str(path)).graph for path in (tmp_path / "a.onnx", SMALL.with_suffix(".onnx"))
    )
    assert [node.op_type for node in mine.node] == [node.op_type for node in theirs.node]
