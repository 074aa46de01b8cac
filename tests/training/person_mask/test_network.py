"""The small person network: begun with lite's weights, exported as it computes."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch

from cstl_edge.errors import ModelError
from cstl_edge.runtime.masks.manifest import SHIPPED
from cstl_edge.runtime.masks.open import open_mask_network
from cstl_edge.training.person_mask.export import export_network, to_onnx
from cstl_edge.training.person_mask.fit import as_tensor
from cstl_edge.training.person_mask.network import SIDE, PersonMaskNetwork, read_lite

LITE = SHIPPED.parent / "person_mask.onnx"


@pytest.fixture(scope="module")
def network() -> PersonMaskNetwork:
    torch.manual_seed(3)
    begun = PersonMaskNetwork()
    begun.start()
    read_lite(begun, LITE)
    return begun.eval()


def test_layers_of_lite_compute_what_they_do_in_lite(network) -> None:
    """The output of lite's first levels, on the same picture, is the student's."""
    graph = onnx.load(str(LITE))
    level_4 = next(n for n in graph.graph.node if n.op_type == "Add" and n.output[0] == "t49")
    graph.graph.output.append(onnx.helper.make_tensor_value_info(level_4.output[0], 1, None))
    import onnxruntime

    session = onnxruntime.InferenceSession(graph.SerializeToString())
    pictures = np.random.default_rng(0).random((1, 256, 256, 3), np.float32)
    wanted = session.run([level_4.output[0]], {"image": pictures})[0]
    with torch.no_grad():
        x = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())
        stem = torch.clamp(network.stem(x), 0, 6)
        stem = network.stem_mix(torch.clamp(network.stem_filter(stem), 0, 6))
        got = network.level_4[1](network.level_4[0](stem)).numpy()
    np.testing.assert_allclose(got, wanted, atol=0.02)


def test_another_network_than_lite_is_refused(tmp_path) -> None:
    model = onnx.load(str(LITE))
    del model.graph.node[200:]
    onnx.save(model, str(tmp_path / "part.onnx"))
    with pytest.raises(ModelError, match="layers of BlazePose lite"):
        read_lite(PersonMaskNetwork(), tmp_path / "part.onnx")


def test_the_exported_network_computes_what_the_trained_one_does(network, tmp_path) -> None:
    manifest = export_network(to_onnx(network), "student", tmp_path / "student.onnx")
    assert json.loads((tmp_path / "student.json").read_text())["sha256"] == manifest.sha256
    opened = open_mask_network(tmp_path / "student.json")
    crops = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    logits, presence = opened(crops)
    with torch.no_grad():
        wanted, present = network(as_tensor(crops))
    spread = float(wanted.std())
    np.testing.assert_allclose(logits, wanted[:, 0].numpy(), atol=0.05 * spread)
    np.testing.assert_allclose(presence, torch.sigmoid(present[:, 0]).numpy(), atol=0.02)
    assert (tmp_path / "student.onnx").stat().st_size < 1.1 * 2**20
