"""Checkpoints: a saved network loads unchanged, damaged files are refused."""

import copy
import json
import os
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from cstl_edge.checkpoint import weights as module
from cstl_edge.checkpoint.weights import load_checkpoint, save_checkpoint, weights_sha256
from cstl_edge.errors import ModelError, StorageError
from cstl_edge.model import Cstl, CstlConfig

TINY = CstlConfig(widths=(2, 4, 8, 8), parts=4, embedding=16, classes=5)


@pytest.fixture(scope="module")
def pristine():
    torch.manual_seed(0)
    network = Cstl(TINY).train()
    silhouettes = torch.randint(0, 256, (4, 5, 64, 44), dtype=torch.uint8)
    network.training_outputs(silhouettes)  # moves the running statistics off their start
    return network.eval()


@pytest.fixture
def model(pristine):
    return copy.deepcopy(pristine)


@pytest.fixture
def silhouettes():
    return torch.randint(0, 256, (2, 6, 64, 44), dtype=torch.uint8)


@pytest.fixture
def saved(tmp_path, model):
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, model, {"people": 5})
    return path


def write_config(path, config):
    """Put a text in place of the configuration in a file's JSON header; None takes it away."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    metadata = header["__metadata__"] | {"config": config}
    header["__metadata__"] = {k: v for k, v in metadata.items() if v is not None}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def test_saved_network_loads_unchanged(saved, model, silhouettes):
    loaded, training = load_checkpoint(saved)
    assert training == {"people": 5}
    assert loaded.config == CstlConfig(widths=(2, 4, 8, 8), parts=4, embedding=16)
    assert not loaded.training
    with torch.inference_mode():
        expected, actual = model(silhouettes), loaded(silhouettes)
    assert torch.equal(expected[0], actual[0])
    assert torch.equal(expected[1], actual[1])


def test_class_head_is_left_out_by_default(tmp_path, model, saved):
    assert not [key for key in load_file(saved) if "class_head" in key or "tracked" in key]
    whole = tmp_path / "whole.safetensors"
    save_checkpoint(whole, model, inference_only=False)
    loaded, _ = load_checkpoint(whole)
    assert loaded.config.classes == 5
    assert torch.equal(loaded.class_head.weight, model.class_head.weight)
    assert weights_sha256(whole) == weights_sha256(saved)


def test_class_matrix_of_older_files_is_spread_over_the_parts(tmp_path, model, silhouettes):
    """Until 2026-11-30 the paper's form had one matrix for all parts."""
    path, old = tmp_path / "whole.safetensors", copy.deepcopy(model)
    shared = torch.randn(model.config.widths[-1], model.config.classes)
    old.class_head.weight = torch.nn.Parameter(shared)
    save_checkpoint(path, old, inference_only=False)
    loaded, _ = load_checkpoint(path)
    assert loaded.class_head.weight.shape == model.class_head.weight.shape
    assert all(torch.equal(part, shared) for part in loaded.class_head.weight)
    with torch.no_grad():
        actual, expected = (net.eval().training_outputs(silhouettes) for net in (loaded, old))
    torch.testing.assert_close(actual.logits, expected.logits)


def test_float16_file_is_rounded_once_and_keeps_its_sha256(tmp_path, model, silhouettes):
    path, again = tmp_path / "half.safetensors", tmp_path / "again.safetensors"
    digest = save_checkpoint(path, model, half=True)
    assert {t.dtype for t in load_file(path).values()} == {torch.float16}
    loaded, _ = load_checkpoint(path, digest)
    assert loaded.embed.weight.dtype == torch.float32
    assert weights_sha256(path) == weights_sha256(loaded.state_dict()) == digest
    assert save_checkpoint(again, loaded, half=True) == digest  # rounding is idempotent
    assert again.read_bytes() == path.read_bytes()
    error = (loaded(silhouettes)[0] - model(silhouettes)[0]).abs().max()
    assert 0 < error < 0.01 * model(silhouettes)[0].abs().max()


def test_weights_sha256_covers_names_shapes_and_numbers():
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2)}
    base = weights_sha256(state)
    assert base == weights_sha256(dict(reversed(state.items())))
    assert base == weights_sha256({k: t.half() for k, t in state.items()})
    assert base == weights_sha256({**state, "x.num_batches_tracked": torch.tensor(3)})
    assert base != weights_sha256({"a": state["a"].reshape(3, 2), "b": state["b"]})
    assert base != weights_sha256({"a": state["a"], "c": state["b"]})
    assert base != weights_sha256({"a": state["a"] + 1e-6, "b": state["b"]})


def test_numbers_beyond_float16_are_refused():
    with pytest.raises(ModelError, match="float16: b holds"):
        module.round_to_half({"a": torch.ones(2), "b": torch.tensor([1e6])})


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 100, b"PK\x03\x04" + b"0" * 500])
def test_file_of_another_format_is_refused(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="expected a safetensors"):
        load_checkpoint(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"cannot read .*none\.safetensors"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_truncated_file_is_refused(saved):
    raw = saved.read_bytes()
    for keep in (4, 8, 200, len(raw) // 2, len(raw) - 1):
        saved.write_bytes(raw[:keep])
        with pytest.raises(ModelError):
            load_checkpoint(saved)
    saved.write_bytes(raw + b"\0")
    with pytest.raises(ModelError, match="fetch it again"):
        load_checkpoint(saved)


def test_flipped_bits_are_refused(saved):
    raw = saved.read_bytes()
    positions = torch.randint(0, len(raw), (60,), generator=torch.Generator().manual_seed(3))
    for position in [*range(0, 60, 11), *positions.tolist(), len(raw) - 1]:
        flipped = bytearray(raw)
        flipped[position] ^= 1 << (position % 8)
        saved.write_bytes(flipped)
        with pytest.raises(ModelError):
            load_checkpoint(saved)


def test_other_expected_sha256_is_refused(saved):
    with pytest.raises(ModelError, match=f"expected weights with sha256 {'0' * 64}"):
        load_checkpoint(saved, "0" * 64)


def test_changed_weight_with_valid_sha256_is_another_model(saved, model):
    digest = weights_sha256(saved)
    with torch.no_grad():
        model.embed.weight.view(-1)[0] += 1
    save_checkpoint(saved, model)
    with pytest.raises(ModelError, match="another model"):
        load_checkpoint(saved, digest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("embed.weight"), r"missing key embed\.weight \[4, 16, 16\]"),
        (lambda t: t.update(extra=torch.ones(3)), r"unexpected key extra \[3\]"),
        (
            lambda t: t.update({"embed.weight": torch.ones(2, 2)}),
            r"embed\.weight: expected shape \[4, 16, 16\], got \[2, 2\]",
        ),
    ],
    ids=["missing", "unexpected", "mis-shaped"],
)
def test_error_names_the_offending_key(saved, change, message):
    metadata, _ = module.read_header(saved)
    tensors = load_file(saved)
    change(tensors)
    save_file(tensors, saved, metadata)
    with pytest.raises(ModelError, match=message):
        load_checkpoint(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused(saved, model, value):
    with torch.no_grad():
        model.embed.weight.view(-1)[5] = value
    save_checkpoint(saved, model)
    with pytest.raises(ModelError, match=r"embed\.weight holds NaN or infinity"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    "config",
    [None, "", "[]", '{"width": 3}', '{"parts": 5}', '{"embedding": 9999999999999}', "[" * 9999],
)
def test_invalid_configuration_is_refused(saved, config):
    write_config(saved, config)
    with pytest.raises(ModelError):
        load_checkpoint(saved)


def test_huge_configuration_allocates_nothing(saved):
    write_config(saved, '{"widths": [2, 4, 8, 60000], "parts": 32, "embedding": 60000}')
    with pytest.raises(ModelError, match="expected shape"):  # 920 GB, were they allocated
        load_checkpoint(saved)


def test_failed_write_leaves_the_old_file_alone(saved, model, monkeypatch):
    before = saved.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        module.write_tensors(saved, {"a": torch.ones(3)}, {})
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]
