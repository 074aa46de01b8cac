"""PyTorch backend: a checkpoint as an encoder."""

import sys

import numpy as np
import pytest
from golden_export import edit_manifest

from cstl_edge.errors import BackendUnavailable, ModelError
from cstl_edge.runtime import load
from cstl_edge.runtime.streaming.rings import KEPT


@pytest.fixture
def weights(tmp_path):
    torch = pytest.importorskip("torch", reason="the reference backend needs torch")
    from cstl_edge.checkpoint.weights import save_checkpoint
    from cstl_edge.model import Cstl, CstlConfig

    torch.manual_seed(1)
    config = CstlConfig(size=(16, 12), widths=(4, 8, 16, 16), parts=4, embedding=8)
    path = tmp_path / "walker.safetensors"
    save_checkpoint(path, Cstl(config), {"name": "a walker"}, half=True)
    return path


def test_auto_opens_a_checkpoint_in_pytorch(weights):
    import torch

    info = load(weights).info
    assert (info.backend, info.provider, info.precision) == ("pytorch", "cpu", "float32")
    assert info.threads == torch.get_num_threads()
    assert (info.model_name, info.size, info.channels) == ("a walker", (16, 12), 16)
    assert info.impostors is None


def test_whole_is_frames_then_head(weights):
    encoder = load(weights)
    rng = np.random.default_rng(0)
    silhouettes = rng.integers(0, 256, (2, 6, 16, 12), dtype=np.uint8)
    silhouettes.flags.writeable = False
    embedded = encoder.encode(silhouettes, np.array([6, 2], np.int32))
    alone = encoder.encode(silhouettes[1:, :2])
    np.testing.assert_allclose(embedded.embedding[1], alone.embedding[0], atol=1e-5)
    np.testing.assert_array_equal(embedded.salient_frames[1], alone.salient_frames[0])


def test_a_network_without_ssfl_returns_no_salient_frames():
    pytest.importorskip("torch", reason="the reference backend needs torch")
    from cstl_edge.model import Cstl, CstlConfig
    from cstl_edge.runtime.backends.pytorch import TorchEncoder

    config = CstlConfig(size=(16, 12), widths=(4, 4, 4, 4), parts=4, embedding=8, salient=False)
    encoder = TorchEncoder(Cstl(config))
    embedded = encoder.encode(np.zeros((1, 2, 16, 12), np.uint8))
    assert embedded.salient_frames.tolist() == [[-1] * 4]
    assert not encoder.info.slides
    with pytest.raises(ModelError, match="this network has no sliding form: use `head`"):
        encoder.taps(np.zeros((4, 2, 4), np.float32))
    kept = dict.fromkeys(KEPT, np.zeros((1, 4, 2, 12), np.float32))
    with pytest.raises(ModelError, match="this network has no sliding form: use `head`"):
        encoder.slide(kept, np.array([[1, 0]]))


def test_impostors_come_from_the_export_beside(weights, folder):
    beside = weights.with_suffix("")
    folder.rename(beside)
    assert load(weights).info.impostors is None  # of other weights
    edit_manifest(beside, weights_sha256=load(weights).info.weights_sha256)
    assert load(weights).info.impostors["sizes"] == [1, 2]


def test_a_damaged_checkpoint_is_refused(weights):
    weights.write_bytes(weights.read_bytes()[:-3])
    with pytest.raises(ModelError, match=r"walker\.safetensors"):
        load(weights)


def test_without_torch_the_error_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendUnavailable, match=r"pip install .*\[train\]"):
        load(tmp_path / "w.safetensors")
