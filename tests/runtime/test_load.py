"""What goes into an encoder is checked at the door, and `load` chooses only when asked to."""

import numpy as np
import pytest

from cstl_edge.errors import BackendUnavailable, ConfigError, DataError, ModelError
from cstl_edge.runtime import Embedded, load
from cstl_edge.runtime.base import FRAMES_PER_RUN, MAX_THREADS, usable_cores

SILHOUETTES = np.zeros((2, 3, 8, 6), np.uint8)


@pytest.mark.parametrize(
    ("silhouettes", "told"),
    [
        (SILHOUETTES.astype(np.float32), "got float32 [2, 3, 8, 6]"),
        (SILHOUETTES[0], "expected silhouettes as uint8 [n, s, 8, 6]; got uint8 [3, 8, 6]"),
        (SILHOUETTES[..., :5], "got uint8 [2, 3, 8, 5]"),
        (SILHOUETTES[:0], "got uint8 [0, 3, 8, 6]"),
        (SILHOUETTES[:, :0], "got uint8 [2, 0, 8, 6]"),
        (SILHOUETTES.tolist(), "got list"),
    ],
)
def test_silhouettes_that_cannot_be_meant(standin, silhouettes, told):
    with pytest.raises(DataError, match="expected silhouettes as uint8") as refused:
        standin.encode(silhouettes)
    assert told in str(refused.value)
    assert standin.calls == []


@pytest.mark.parametrize("lengths", [[0, 3], [1, 4], [-1, 2]])
def test_lengths_outside_the_frames(standin, lengths):
    with pytest.raises(DataError, match=r"expected lengths in 1\.\.3"):
        standin.encode(SILHOUETTES, np.array(lengths, np.int32))


@pytest.mark.parametrize("lengths", [np.ones(2, np.int64), np.ones(3, np.int32), [1, 1]])
def test_lengths_of_another_form(standin, lengths):
    with pytest.raises(DataError, match=r"expected lengths as int32 \[2\]"):
        standin.encode(SILHOUETTES, lengths)


@pytest.mark.parametrize("shape", [(2, 3, 3, 2), (2, 3, 6), (0, 3, 2, 3), (2, 0, 2, 3)])
def test_features_of_another_form(standin, shape):
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
    assert [count for name, count in standin.calls if name == "frames"] == [
        FRAMES_PER_RUN,
        FRAMES_PER_RUN,
        1,
    ]


def test_embeddings_that_are_not_finite_are_told():
    embedding = np.zeros((3, 2, 4), np.float32)
    embedding[1, 1, 3], embedding[2, 0, 0] = np.nan, np.inf
    assert Embedded(embedding, np.zeros((3, 2), np.int32)).finite.tolist() == [True, False, False]


def test_an_unknown_backend_is_named(tmp_path):
    with pytest.raises(ConfigError, match="onnxruntime, openvino, pytorch, tensorrt; got 'cuda'"):
        load(tmp_path, backend="cuda")


def test_tensorrt_is_refused_not_replaced(folder):
    with pytest.raises(ModelError, match=r"no engines for TensorRT in .*cstl-edge build"):
        load(folder, backend="tensorrt")


def test_no_threads_are_too_few(folder):
    with pytest.raises(ConfigError, match="at least 1 thread; got 0"):
        load(folder, threads=0)


def test_a_missing_library_is_an_error_not_a_choice(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    monkeypatch.setattr(
        "cstl_edge.runtime.backends.onnx_folder.checked_graphs",
        lambda *asked: dict.fromkeys(asked[2], b""),
    )
    for backend in ("auto", "onnxruntime"):
        with pytest.raises(BackendUnavailable, match="pip install onnxruntime"):
            load(folder, backend=backend)


def test_a_folder_is_no_checkpoint(folder):
    with pytest.raises(ModelError, match=r"expected a \.safetensors checkpoint"):
        load(folder, backend="pytorch")


def test_a_checkpoint_is_no_folder(tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"x")
    with pytest.raises(ModelError, match=r"is no folder"):
        load(weights, backend="onnxruntime")


def test_cores_are_counted_within_reason():
    assert 1 <= usable_cores() <= MAX_THREADS
