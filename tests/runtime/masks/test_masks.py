"""Mask networks come in by one door: a manifest; what does not fit it is refused in one line."""

import json

import cv2
import numpy as np
import onnx
import pytest
from mask_networks import blue_squares, onnx_with, student

from cstl_edge.errors import ModelError
from cstl_edge.live.segmentation.mask_network import crop_square, square_around
from cstl_edge.live.sources.open import open_source
from cstl_edge.live.sources.synthetic.source import SyntheticSource
from cstl_edge.runtime.masks import check
from cstl_edge.runtime.masks.manifest import SHIPPED, SMALL, read_mask_manifest
from cstl_edge.runtime.masks.open import open_mask_network


@pytest.fixture
def unprobed(monkeypatch):
    """Take networks as checked in the child: half a second less per test."""
    monkeypatch.setattr(check, "run_probe", lambda *_: None)


@pytest.fixture
def probed(monkeypatch):
    """Check networks as the child does, in this process."""
    from cstl_edge.runtime.masks.graph import check_mask_graph
    from cstl_edge.runtime.masks.manifest import MaskManifest

    def run(what, graphs):
        manifest = MaskManifest.model_validate(what["mask"])
        check_mask_graph(manifest, graphs[manifest.file])

    monkeypatch.setattr(check, "run_probe", run)


def test_the_shipped_network_has_a_manifest_with_its_licence():
    manifest = read_mask_manifest()
    assert manifest.sha256 == check.SHIPPED_SHA256[SHIPPED]
    assert (manifest.input.side, manifest.licence) == (256, "Apache-2.0")
    assert (SHIPPED.parent / manifest.notice).is_file()
    network = open_mask_network()
    assert (network.side, network.provider) == (256, "CPUExecutionProvider")


def test_the_small_shipped_network_has_a_card_and_opens_without_a_child(monkeypatch):
    monkeypatch.setattr(check, "run_probe", None)
    manifest = read_mask_manifest(SMALL)
    assert manifest.sha256 == check.SHIPPED_SHA256[SMALL]
    assert (manifest.input.side, manifest.licence) == (192, "Apache-2.0")
    assert (SMALL.parent / manifest.notice).is_file()
    assert (SMALL.parent / manifest.file).stat().st_size < 1.5 * 2**20


@pytest.mark.usefixtures("unprobed")
@pytest.mark.parametrize("threads", [1, 2])
def test_crops_together_give_what_each_gives_alone(tmp_path, threads):
    for manifest, count in ((SMALL, 5), (student(tmp_path), 70)):  # the second: several in a run
        network = open_mask_network(manifest, threads=threads)
        shape = count, network.side, network.side, 3
        crops = np.random.default_rng(5).integers(0, 256, shape, np.uint8)
        logits, presence = network(crops)
        single = [network(crop[None]) for crop in crops]
        np.testing.assert_allclose(logits, np.concatenate([one for one, _ in single]), atol=1e-3)
        np.testing.assert_allclose(presence, np.concatenate([one for _, one in single]), atol=1e-5)
        network.close()


def test_the_small_network_masks_the_walker_of_the_clip():
    """A golden picture: the walker as the larger network sees her, and nobody before a tree."""
    with open_source(str(SMALL.parent / "walk.mp4")) as source:
        image = next(frame.image for frame in source if frame.index == 110)
    square = square_around((422, 250, 77, 209), 1.25)
    crops = {side: crop_square(image, square, side)[None] for side in (192, 256)}
    small, present = open_mask_network(SMALL)(crops[192])
    large, _ = open_mask_network()(crops[256])
    mask = cv2.resize(small[0], (256, 256), interpolation=cv2.INTER_LINEAR) > 0
    truth = large[0] > 0
    assert (mask & truth).sum() / (mask | truth).sum() > 0.85
    assert present[0] > 0.5
    empty, nobody = open_mask_network(SMALL)(crop_square(image, (600, 20, 200, 200), 192)[None])
    assert (empty > 0).mean() < 0.05
    assert nobody[0] < 0.5


@pytest.mark.parametrize("manifest", [SHIPPED, SMALL])
def test_nobody_is_present_in_an_empty_street_and_its_lamp_posts(manifest):
    with SyntheticSource(0, seed=1, poles=3, seconds=1) as street:
        image = street.image(0)
    network = open_mask_network(manifest)
    places = [(x, y, 0.4 * h, h) for h in (90, 150) for y in (130, 190) for x in range(20, 600, 70)]
    squares = [square_around(place, 1.25) for place in places]
    _, presence = network(np.stack([crop_square(image, each, network.side) for each in squares]))
    network.close()
    assert (presence > 0.5).mean() <= 0.05


@pytest.mark.usefixtures("unprobed")
@pytest.mark.parametrize("presence", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_network_of_another_form_needs_no_change_here(tmp_path, presence, threads):
    """Side, layout, colours, normalisation and meaning are the manifest's."""
    network = open_mask_network(student(tmp_path, presence), threads=threads)
    crops, masks = blue_squares(3)
    logits, present = network(crops)
    assert (network.side, logits.dtype, logits.shape) == (64, np.float32, (3, 64, 64))
    np.testing.assert_array_equal(logits > 0, masks)
    np.testing.assert_allclose(logits[masks], 8 * (200 - 128) / 64, rtol=1e-3)
    np.testing.assert_array_equal(present > 0.5, [False, True, True])
    network.close()


def test_a_foreign_network_is_first_opened_in_a_child(tmp_path):
    path = student(tmp_path)
    open_mask_network(path)
    onnx_with(path, lambda model: model.graph.node[1].ClearField("input"))
    with pytest.raises(ModelError, match="model refused"):
        open_mask_network(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "expected sha256 000000000000"),
        ({"file": "../student.onnx"}, "file: "),
        ({"mask": {"name": "who", "meaning": "colour"}}, r"mask\.meaning"),
        ({"licence": ""}, "licence"),
        ({"colour": "red"}, "colour"),
        ({"format": 2}, "format"),
    ],
)
def test_a_manifest_that_does_not_fit_is_one_line(tmp_path, changes, message):
    with pytest.raises(ModelError, match=message) as refused:
        open_mask_network(student(tmp_path, **changes))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [[0.0, 1.0, 1.0], [float("nan")] * 3, [1.0, 1.0]])
def test_a_normalisation_that_cannot_be_is_refused(tmp_path, value):
    path = student(tmp_path)
    manifest = json.loads(path.read_text())
    manifest["input"]["std"] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"std|NaN"):
        open_mask_network(path)


def test_a_missing_manifest_says_what_is_expected(tmp_path):
    with pytest.raises(ModelError, match=r"manifest of a mask network.*none\.json"):
        open_mask_network(tmp_path / "none.json")


def another_domain(model):
    model.graph.node[0].domain = "somebody"


def weights_elsewhere(model):
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def not_finite(model):
    values = np.array([np.nan, 0, 0], np.float32).reshape(1, 3, 1, 1)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(values, "w"))


def old_opset(model):
    model.opset_import[0].version = 7


@pytest.mark.usefixtures("probed")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_domain, "expected standard operators; got Conv"),
        (weights_elsewhere, "all weights inside the file"),
        (not_finite, "NaN or infinite weights"),
        (old_opset, "expected opset 11"),
    ],
)
def test_a_graph_of_another_form_is_refused(tmp_path, change, message):
    path = student(tmp_path)
    onnx_with(path, change)
    with pytest.raises(ModelError, match=message):
        open_mask_network(path)


@pytest.mark.usefixtures("probed")
def test_inputs_and_outputs_are_those_of_the_manifest(tmp_path):
    with pytest.raises(ModelError, match=r"first axis is left open"):
        open_mask_network(student(tmp_path, batch=2))
    with pytest.raises(ModelError, match="expected the output other; got"):
        open_mask_network(student(tmp_path, mask={"name": "other", "meaning": "logit"}))
    with pytest.raises(ModelError, match=r"expected there as float32 with 4096 numbers per crop"):
        open_mask_network(student(tmp_path, mask={"name": "there", "meaning": "logit"}))
