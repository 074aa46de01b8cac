"""Loading encoders: checked inputs, `auto` and the table of backends."""

import json
import sys

import numpy as np
import pytest
from command_line import call
from PIL import Image

from cstl_edge.errors import BackendUnavailable, ConfigError, DataError, ModelError
from cstl_edge.registry import Entry
from cstl_edge.runtime import load
from cstl_edge.runtime.base import FRAMES_PER_RUN, MAX_THREADS, Embedded, usable_cores
from cstl_edge.runtime.load import BACKENDS

SILHOUETTES = np.zeros((2, 3, 8, 6), np.uint8)


@pytest.mark.parametrize(
    ("silhouettes", "message"),
    [
        (SILHOUETTES.astype(np.float32), "got float32 [2, 3, 8, 6]"),
        (SILHOUETTES[0], "expected silhouettes as uint8 [n, s, 8, 6]; got uint8 [3, 8, 6]"),
        (SILHOUETTES[..., :5], "got uint8 [2, 3, 8, 5]"),
        (SILHOUETTES[:0], "got uint8 [0, 3, 8, 6]"),
        (SILHOUETTES[:, :0], "got uint8 [2, 0, 8, 6]"),
        (SILHOUETTES.tolist(), "got list"),
    ],
)
def test_wrong_silhouettes_are_refused(standin, silhouettes, message):
    with pytest.raises(DataError, match="expected silhouettes as uint8") as refused:
        standin.encode(silhouettes)
    assert message in str(refused.value)
    assert standin.calls == []


@pytest.mark.parametrize("lengths", [[0, 3], [1, 4], [-1, 2]])
def test_lengths_outside_the_frames_are_refused(standin, lengths):
    with pytest.raises(DataError, match=r"expected lengths in 1\.\.3"):
        standin.encode(SILHOUETTES, np.array(lengths, np.int32))


@pytest.mark.parametrize("lengths", [np.ones(2, np.int64), np.ones(3, np.int32), [1, 1]])
def test_lengths_of_wrong_type_or_shape_are_refused(standin, lengths):
    with pytest.raises(DataError, match=r"expected lengths as int32 \[2\]"):
        standin.encode(SILHOUETTES, lengths)


@pytest.mark.parametrize("shape", [(2, 3, 3, 2), (2, 3, 6), (0, 3, 2, 3), (2, 0, 2, 3)])
def test_features_of_wrong_shape_are_refused(standin, shape):
    with pytest.raises(DataError, match="expected features as float32"):
        standin.head(np.zeros(shape, np.float32), np.ones(2, np.int32))


def test_padding_never_reaches_the_trunk(standin):
    lengths = np.array([1, 3], np.int32)
    padded = SILHOUETTES.copy()
    padded[0, 1:] = 255
    one, other = standin.encode(SILHOUETTES, lengths), standin.encode(padded, lengths)
    np.testing.assert_array_equal(one.embedding, other.embedding)
    assert standin.calls == [("frames", 4), ("head", [1, 3])] * 2


def test_long_sequences_pass_the_trunk_in_pieces(standin):
    standin.encode(np.zeros((1, 2 * FRAMES_PER_RUN + 1, 8, 6), np.uint8))
    frames = [count for name, count in standin.calls if name == "frames"]
    assert frames == [FRAMES_PER_RUN, FRAMES_PER_RUN, 1]


def test_embeddings_that_are_not_finite_are_marked():
    embedding = np.zeros((3, 2, 4), np.float32)
    embedding[1, 1, 3], embedding[2, 0, 0] = np.nan, np.inf
    assert Embedded(embedding, np.zeros((3, 2), np.int32)).finite.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backend": "cuda"}, ConfigError, "openvino, pytorch, tensorrt, triton; got 'cuda'"),
        ({"backend": "onnx-runtime"}, ConfigError, "'onnx-runtime'; did you mean onnxruntime"),
        ({"backend": "tensorrt"}, ModelError, r"no engines for TensorRT in .*cstl-edge build"),
        ({"backend": "pytorch"}, ModelError, r"expected a \.safetensors checkpoint"),
        ({"threads": 0}, ConfigError, "at least 1 thread; got 0"),
    ],
)
def test_wrong_options_are_refused_not_replaced(folder, options, error, message):
    with pytest.raises(error, match=message):
        load(folder, **options)


def test_a_missing_library_is_an_error_not_a_choice(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(
        "cstl_edge.runtime.backends.onnx_folder.checked_graphs",
        lambda *arguments: dict.fromkeys(arguments[2], b""),
    )
    for backend in ("auto", "onnxruntime"):
        with pytest.raises(BackendUnavailable, match="pip install onnxruntime"):
            load(folder, backend=backend)


def test_a_checkpoint_for_a_folder_backend_is_refused(tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"x")
    with pytest.raises(ModelError, match=r"is no folder"):
        load(weights, backend="onnxruntime")


def test_usable_cores_are_at_least_one_and_at_most_the_limit():
    assert 1 <= usable_cores() <= MAX_THREADS


def test_the_help_of_verbs_names_every_backend():
    shown = call("live", "--help").stdout
    assert all(name in shown for name in BACKENDS)


MINE = """
from cstl_edge.runtime.backends import onnxruntime

frames = []

class Mine:
    def __init__(self, encoder):
        self._encoder = encoder

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode(self, silhouettes, lengths=None):
        frames.append(silhouettes.shape[1])
        return self._encoder.encode(silhouettes, lengths)

def load_mine(path, threads, precision):
    return Mine(onnxruntime.load_folder(path, threads, precision))
"""


def test_a_backend_is_a_file_and_a_line_of_the_table(tmp_path, monkeypatch):
    (tmp_path / "my_backend.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(BACKENDS.entries, "mine", Entry("my_backend:load_mine", "of a test"))
    (tmp_path / "walk").mkdir()
    for i in range(24):  # a walker whose legs open and close
        mask = np.zeros((64, 44), np.uint8)
        mask[4:40, 16:28] = mask[40:60, 16 - i % 6 : 20] = mask[40:60, 24 : 28 + i % 6] = 255
        Image.fromarray(mask).save(tmp_path / "walk" / f"{i:02}.png")
    enroll = ["enroll", "Ada", tmp_path / "walk", "--silhouettes", "left", "--consent", "signed"]
    enroll += ["--gallery", tmp_path / "people.db", "--json"]
    done = call(*enroll, "--backend", "mine")
    assert json.loads(done.stdout)["templates"] >= 1, done.stderr
    assert sys.modules["my_backend"].frames
    assert "mine" in call(*enroll, "--backend", "mein").stderr
