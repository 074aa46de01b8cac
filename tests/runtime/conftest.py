"""Fixtures: a small exported network, and stand-in encoders in numpy."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from golden_export import GOLDEN

from cstl_edge.runtime import load
from cstl_edge.runtime.base import (
    Embedded,
    EncoderInfo,
    check_array,
    check_lengths,
    encode_in_parts,
)
from cstl_edge.runtime.streaming.rings import check_slots


class Standin:
    """Features are the sums of a silhouette's bands; the embedding depends on their order."""

    def __init__(self, size=(8, 6), parts=2, channels=3, embedding=4):
        self.info = EncoderInfo(
            "standin", "numpy", "float32", 1, "standin", "0" * 64, size, parts, channels, embedding
        )
        self.feature = (parts, channels)
        self.calls = []  # ("frames", m) and ("head", lengths)

    def frames(self, silhouettes):
        check_array("silhouettes", silhouettes, np.uint8, ("m", *self.info.size))
        self.calls.append(("frames", len(silhouettes)))
        bands = silhouettes.reshape(len(silhouettes), self.info.parts, -1)  # [m, p, pixels]
        split = np.array_split(bands / np.float32(255), self.info.channels, axis=2)
        return np.stack([band.mean(2) for band in split], 2).astype(np.float32)  # [m, p, c]

    def head(self, features, lengths):
        check_array("features", features, np.float32, ("n", "s", *self.feature))
        check_lengths(lengths, *features.shape[:2])
        self.calls.append(("head", lengths.tolist()))
        embedding = np.zeros((len(features), self.info.parts, self.info.embedding), np.float32)
        salient = np.zeros((len(features), self.info.parts), np.int32)
        for i, length in enumerate(lengths):
            window = features[i, :length]  # [s, p, c]
            salient[i] = window.sum(2).argmax(0)
            for k in range(self.info.embedding):
                weights = np.cos(np.arange(length) * (k + 1)).astype(np.float32)
                embedding[i, :, k] = (weights[:, None, None] * window).sum((0, 2))
        return Embedded(embedding, salient)

    def encode(self, silhouettes, lengths=None):
        return encode_in_parts(self, silhouettes, lengths)

    def warm_up(self, walkers):
        self.calls.append(("warm_up", walkers))

    def close(self):
        pass


class SlidingStandin(Standin):
    """Its head in three graphs: what a frame says of two on either side, and in which order."""

    def __init__(self):
        super().__init__()
        self.info = dataclasses.replace(self.info, slides=True)

    def head(self, features, lengths):
        check_array("features", features, np.float32, ("n", "s", *self.feature))
        check_lengths(lengths, *features.shape[:2])
        self.calls.append(("head", lengths.tolist()))
        answers = [
            self._answer(*(k[None] for k in _near(window[:length])), np.arange(length)[None])
            for window, length in zip(features, lengths, strict=True)
        ]
        return Embedded(*map(np.concatenate, zip(*answers, strict=True)))

    def taps(self, features):
        check_array("features", features, np.float32, (self.info.parts, "m", self.info.channels))
        self.calls.append(("taps", features.shape[1]))
        return np.concatenate([k * features + b for k, b in _SHARES], 2).astype(
            np.float32
        ), features

    def mix(self, features, sums):
        for name, rows in (("features", features), ("sums", sums)):
            check_array(name, rows, np.float32, (self.info.parts, "m", self.info.channels))
        self.calls.append(("mix", sums.shape[1]))
        return sums, features[:, :, :1]

    def slide(self, kept, slots):
        check_slots(slots, kept)
        self.calls.append(("slide", [slots.shape[1]] * len(slots)))
        features, *sums = np.split(kept["kept_values"], 3, 3)
        for twice in sums:
            np.testing.assert_array_equal(kept["kept_logits"], twice)
        np.testing.assert_array_equal(kept["kept_gates"], features)
        np.testing.assert_array_equal(kept["kept_judged"], features[..., :1])
        return Embedded(*self._answer(features, sums[0], slots))

    def _answer(self, features, near, slots):
        """[n, p, s, c] twice, in rings -> embedding [n, p, d], salient frames [n, p]."""
        features, near = (
            np.stack([ring[:, order] for ring, order in zip(rings, slots, strict=True)])
            for rings in (features, near)
        )
        times = np.arange(features.shape[2], dtype=np.float32)
        weights = np.cos(times[:, None] * np.arange(1, self.info.embedding + 1))  # [s, d]
        embedding = (near.sum(3) @ weights).astype(np.float32)  # [n, p, d]
        return embedding, features.sum(3).argmax(2).astype(np.int32)


_BEFORE, _AT, _AFTER = 0.5, -1.0, 0.25  # of a sum of three frames
_SHIFTS = 0.3, 0.7  # what lies outside a window is zero, not the continuation of what is inside
_SUM = _SHIFTS[0] * (_BEFORE + _AT + _AFTER) + _SHIFTS[1]
_WHOLE = 2 * _BEFORE * _AFTER + _AT**2
_SHARES = [  # in the order of `rings.TAPS`
    (_BEFORE**2, 0),
    (2 * _BEFORE * _AT, 0),
    (_WHOLE, _SUM),
    (_WHOLE - _BEFORE * _AFTER, _SUM - _SHIFTS[0] * _BEFORE),
    (2 * _AFTER * _AT, 0),
    (_AFTER**2, 0),
    (_BEFORE * _AFTER, _SHIFTS[0] * _AFTER),
]


def _near(window):
    """Frames [s, p, c] -> the same and what two serial sums of three frames say, [p, s, c] each."""
    features = window.swapaxes(0, 1)
    near = features
    for shift in _SHIFTS:
        padded = np.pad(near, ((0, 0), (1, 1), (0, 0)))
        near = _BEFORE * padded[:, :-2] + _AT * near + _AFTER * padded[:, 2:] + np.float32(shift)
    return features, near


@pytest.fixture
def standin():
    return Standin()


@pytest.fixture
def sliding_standin():
    return SlidingStandin()


@pytest.fixture(scope="session")
def tiny():
    """The golden export in ONNX Runtime."""
    return load(GOLDEN / "tiny", threads=1)


@pytest.fixture(scope="session")
def expected():
    """Silhouettes, lengths and the embeddings of PyTorch."""
    return np.load(GOLDEN / "tiny_expected.npz")


@pytest.fixture
def folder(tmp_path):
    """A copy of the golden export, to be spoilt."""
    return Path(shutil.copytree(GOLDEN / "tiny", tmp_path / "tiny"))
