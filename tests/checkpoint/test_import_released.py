"""Import of released checkpoints: equal embeddings, and refusal of every other file."""

import hashlib
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from standin_released import released_network, released_state
from typer.testing import CliRunner

from cstl_edge.checkpoint import import_released as module
from cstl_edge.checkpoint.import_released import import_released
from cstl_edge.checkpoint.weights import load_checkpoint, save_checkpoint
from cstl_edge.cli.app import app
from cstl_edge.config import load_config
from cstl_edge.errors import ConfigError, ModelError
from cstl_edge.model import Cstl
from cstl_edge.training.settings import TrainConfig

PRESET = Path(__file__).parents[2] / "train" / "configs" / "cstl-released-casia-b.yaml"
SMALL = (32, (2, 3, 4, 16), 8, 5)  # parts, widths, embedding, classes
FULL = (32, 64, 128, 128)


def walk(n, s, h, w, seed=1):
    """Coarse random silhouettes uint8 [n, s, h, w]."""
    random = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 2, (n, s, h // 4, w // 4), dtype=torch.uint8, generator=random)
    return blocks.repeat_interleave(4, 2).repeat_interleave(4, 3) * 255


@pytest.fixture(scope="module")
def state():
    return released_state(*SMALL)


@pytest.fixture
def file(tmp_path, state):
    """A checkpoint as the released code writes it."""
    path = tmp_path / "CSTL_CASIA-B-150000-encoder.ptm"
    torch.save({f"module.{key}": tensor for key, tensor in state.items()}, path)
    return path


def saved(path, loaded):
    torch.save(loaded, path)
    return path


@pytest.mark.parametrize(
    ("parts", "size", "widths", "keys", "frames"),
    [
        (32, (64, 44), (4, 8, 16, 48), 195, (2, 4)),
        (64, (128, 88), (4, 8, 16, 32), 355, (2, 4)),
        (32, (64, 44), FULL, 195, (1, 4)),
        (64, (128, 88), (16, 32, 64, 64), 355, (1, 3)),
    ],
)
def test_imported_embeddings_equal_the_released_network(
    tmp_path, parts, size, widths, keys, frames
):
    state = released_state(parts, widths, 32, 5, seed=parts)
    assert len(state) == keys
    path = saved(tmp_path / "w.ptm", {f"module.{key}": t for key, t in state.items()})
    silhouettes = walk(*frames, *size)
    expected, expected_logits = released_network(state, silhouettes)
    network, _ = import_released(path, class_head=True)
    assert (network.config.size, network.config.parts, network.training) == (size, parts, False)
    with torch.no_grad():
        embedding, logits, *_ = network.training_outputs(silhouettes)
        alone, _ = import_released(path)[0](silhouettes)
    assert expected.abs().mean() > 0.1  # else 1e-5 would say little
    assert (embedding - expected).abs().max() < 1e-5
    assert (logits - expected_logits).abs().max() < 1e-5
    assert torch.equal(alone, embedding)


def test_every_file_format_gives_the_same_network(tmp_path, state, file):
    expected, record = import_released(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert record == {
        "name": "CSTL_CASIA-B-150000-encoder",
        "imported": {"form": "released", "file": file.name, "sha256": digest, "classes": 5},
    }
    whole = {"model": state, "optimizer": {"state": {}}, "scheduler": {}, "iteration": 7}
    parameters = {key: torch.nn.Parameter(t) if t.ndim > 1 else t for key, t in state.items()}
    bare = {key: t.double() for key, t in state.items() if "num_batches" not in key}
    paths = [
        saved(tmp_path / "plain.pth", state),
        saved(tmp_path / "opengait.pt", whole),
        saved(tmp_path / "parameters.pt", parameters),
        saved(tmp_path / "double.pt", bare),
        tmp_path / "legacy.pth",
        tmp_path / "w.safetensors",
    ]
    torch.save(state, paths[-2], _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(state, paths[-1])
    for path in paths:
        network, _ = import_released(path)
        for name, tensor in expected.state_dict().items():
            assert torch.equal(network.state_dict()[name], tensor), (path.name, name)


def test_checkpoint_without_class_head_has_the_same_embeddings(tmp_path, state, file):
    head = ("salient_learning.bn.", "salient_learning.fc")
    path = saved(tmp_path / "w.pt", {k: t for k, t in state.items() if not k.startswith(head)})
    network, record = import_released(path)
    assert record["imported"]["classes"] == 0
    silhouettes = walk(1, 3, 64, 44)
    assert torch.equal(network(silhouettes)[0], import_released(file)[0](silhouettes)[0])
    with pytest.raises(ModelError, match=r"expected the class head salient_learning\.fc, got none"):
        import_released(path, class_head=True)


def without(key):
    return lambda state: state.pop(key)


def put(key, value):
    return lambda state: state.__setitem__(key, value)


def filled(key, value):
    def change(state):
        state[key] = state[key].clone()
        state[key].view(-1)[-1] = value

    return change


SHORT = "multi_scale.short_term.1.0.weight"
SCORE = "salient_learning.part_score"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("fc_bin"), "missing key fc_bin of the released"),
        (without("conv2d_4.forward_block.conv2d.weight"), r"missing key conv2d_4\.forward"),
        (without(f"{SCORE}.1.running_var"), rf"missing key {SCORE}\.1\.running_var \[96\]"),
        (without("salient_learning.bn.31.bias"), r"missing key salient_learning\.bn\.31\.bias"),
        (put("fc_bin", torch.ones(3, 2)), r"fc_bin: expected 3 dimensions, got shape \[3, 2\]"),
        (put("fc_bin", torch.ones(16, 48, 8)), r"fc_bin: expected 32 \(silhouettes .* got 16"),
        (put("fc_bin", torch.ones(32, 47, 8)), r"fc_bin: expected shape \[32, 48, 8\], got"),
        (put("fc_bin", torch.ones(32, 48, 0)), "embedding must be a positive integer, got 0"),
        (put(SHORT, torch.ones(512, 16, 5)), r"1\.0\.weight: expected shape \[512, 16, 3\], got"),
        (put(SHORT, torch.ones(512, 16, 3).int()), "expected floating point, got torch.int32"),
        (put("salient_learning.fc", torch.ones(16, 5)), r"learning\.fc: expected 3 dimensions"),
        (put("head.weight\n", torch.ones(3)), r"unexpected key head\.weight\\n \[3\]"),
        (put("lr", 0.1), "lr: expected a tensor, got float"),
        (put(7, torch.ones(1)), "7: expected a tensor"),
        (put(SHORT, torch.ones(2, 2).to_sparse()), "expected a tensor"),
        (put(SHORT, torch.ones(1).expand(2**20, 2**20)), r"claim \d+ bytes in a file of"),
        (filled(SHORT, float("nan")), r"1\.0\.weight holds NaN or infinity"),
        (filled("fc_bin", float("inf")), "fc_bin holds NaN or infinity"),
        (put("fc_bin", torch.full((32, 48, 8), 1e300, dtype=torch.double)), "fc_bin holds NaN or"),
        (filled(f"{SCORE}.1.running_var", -1.0), "running_var holds a negative variance"),
        (
            put("adaptive_aggregation.t.0.weight", torch.ones(3)),
            r"adaptive_aggregation\.t\.0\.weight is of the authors' branch transformer_version",
        ),
        (put("salient_learning.decay_c.weight", torch.ones(3)), "transformer_version"),
    ],
)  # fmt: skip
def test_error_names_the_offending_key(tmp_path, state, change, message):
    changed = dict(state)
    change(changed)
    with pytest.raises(ModelError, match=message) as caught:
        import_released(saved(tmp_path / "w.ptm", changed))
    assert "\n" not in str(caught.value)


def test_transformer_branch_is_recognised_in_a_partial_checkpoint(tmp_path):
    keys = ["module.conv2d_1.forward_block.conv2d.weight", "module.salient_learning.decay_c.weight"]
    path = saved(tmp_path / "w.ptm", {key: torch.ones(2) for key in keys})
    with pytest.raises(ModelError, match="branch main"):
        import_released(path)


def test_checkpoint_of_cstl_edge_is_refused(tmp_path, file):
    network, record = import_released(file)
    save_checkpoint(tmp_path / "w.safetensors", network, record)
    with pytest.raises(ModelError, match=r"is of cstl_edge itself.* use it as it is"):
        import_released(tmp_path / "w.safetensors")


@pytest.mark.parametrize("loaded", [[torch.ones(3)], torch.ones(3), {}, "weights", None])
def test_file_without_a_state_dict_is_refused(tmp_path, loaded):
    with pytest.raises(ModelError, match="expected tensors by name"):
        import_released(saved(tmp_path / "w.pt", loaded))


class Touch:
    """Unpickled, it runs a command."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("place", ["beside", "inside", "bare", "legacy"])
def test_pickled_code_is_not_run(tmp_path, state, place):
    marker, path = tmp_path / "marker", tmp_path / "w.ptm"
    evil = Touch(marker)
    if place == "bare":
        path.write_bytes(pickle.dumps(evil, protocol=2))
    else:
        loaded = {**state, "fc_bin": evil} if place == "inside" else {"model": state, "x": evil}
        torch.save(loaded, path, _use_new_zipfile_serialization=place != "legacy")
    with pytest.raises(ModelError, match=r"expected tensors alone, .* did not run it: .*mkdir"):
        import_released(path)
    assert not marker.exists()
    with path.open("rb") as handle:  # the trap is real
        if place == "bare":
            pickle.load(handle)
        else:
            torch.load(handle, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("suffix", [".ptm", ".safetensors"])
def test_truncated_file_is_refused(tmp_path, state, suffix, legacy):
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    raw = path.read_bytes()
    for keep in (0, 1, 9, 100, len(raw) // 3, len(raw) // 2, len(raw) - 9):
        path.write_bytes(raw[:keep])
        with pytest.raises(ModelError):
            import_released(path)


def test_flipped_bits_give_a_finite_network_or_a_refusal(tmp_path, state):
    path, random, refused = tmp_path / "w.ptm", np.random.default_rng(0), 0
    torch.save(state, path, _use_new_zipfile_serialization=False)
    raw = path.read_bytes()
    for position in [*random.integers(0, 30_000, 24), *random.integers(0, len(raw), 6)]:
        damaged = bytearray(raw)
        damaged[position] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            network, _ = import_released(path)
        except ModelError as err:
            refused += 1
            assert "\n" not in str(err)  # noqa: PT017
        else:
            assert all(t.isfinite().all() for t in network.state_dict().values())
    assert refused > 5


def test_zip_bomb_is_refused_before_it_inflates(tmp_path, file, monkeypatch):
    path = tmp_path / "bomb.ptm"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**22))
    monkeypatch.setattr(module, "MAX_BYTES", 2**20)
    assert path.stat().st_size < module.MAX_BYTES
    with pytest.raises(ModelError, match="expected at most 1048576 bytes of content, got 4194304"):
        import_released(path)
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(ModelError, match=r"encoder\.ptm: expected .* at most 1000 bytes; got"):
        import_released(file)


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"none\.ptm: No such file.*expected a checkpoint"):
        import_released(tmp_path / "none.ptm")
    with pytest.raises(ModelError, match=r"(Is a directory|no regular file)"):
        import_released(tmp_path)


def verb(*words):
    return CliRunner().invoke(app, ["import-released", *map(str, words)])


def test_import_released_command_writes_weights_that_load(tmp_path, file):
    output = tmp_path / "w.safetensors"
    done = verb(file, "-o", output, "--json")
    result = json.loads(done.stdout)
    network, training = load_checkpoint(output, result["weights_sha256"])
    assert training["imported"] == result["imported"]
    assert (network.config.variant, network.config.classes) == ("released", 0)
    expected, _ = import_released(file)
    silhouettes = walk(1, 3, 64, 44)
    assert torch.equal(network(silhouettes)[0], expected(silhouettes)[0])
    assert "cstl-edge export" in verb(file, "-o", output, "--class-head", "--overwrite").stdout
    assert load_checkpoint(output)[0].config.classes == 5


def test_import_released_command_refuses_bad_output_and_input(tmp_path, file):
    done = verb(file, "-o", tmp_path / "w.pth")
    assert isinstance(done.exception, ConfigError)
    file.write_bytes(b"PK")
    done = verb(file, "-o", tmp_path / "w.safetensors")
    assert isinstance(done.exception, ModelError)
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [((), 17_933_216), (("model.size=[64, 44]", "model.parts=32"), 9_091_232)],
)
def test_released_preset_has_the_parameter_count_at_both_sizes(overrides, parameters):
    config = load_config(TrainConfig, PRESET, overrides)
    with torch.device("meta"):
        network = Cstl(config.network(classes=73))
    assert sum(p.numel() for p in network.parameters()) == parameters
