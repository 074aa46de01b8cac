"""A small exported network, and an encoder of a few lines of numpy whose head minds the order."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cstl_edge.runtime import Embedded, EncoderInfo, load
from cstl_edge.runtime.base import (
    check_features,
    check_lengths,
    check_silhouettes,
    encode_in_parts,
)

GOLDEN = Path(__file__).parents[1] / "golden"


class Standin:
    """Features are the sums of a silhouette's bands; the embedding depends on their order."""

    def __init__(self, size=(8, 6), parts=2, channels=3, embedding=4):
        self.info = EncoderInfo(
            "standin", "numpy", "float32", 1, "standin", "0" * 64, size, parts, channels, embedding
        )
        self.calls = []  # ("frames", m) and ("head", lengths)

    def frames(self, silhouettes):
        check_silhouettes(silhouettes, self.info.size, ("m",))
        self.calls.append(("frames", len(silhouettes)))
        bands = silhouettes.reshape(len(silhouettes), self.info.parts, -1)  # [m, p, pixels]
        split = np.array_split(bands / np.float32(255), self.info.channels, axis=2)
        return np.stack([band.mean(2) for band in split], 2).astype(np.float32)  # [m, p, c]

    def head(self, features, lengths):
        check_features(features, self.info)
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

    def close(self):
        pass


@pytest.fixture
def standin():
    return Standin()


@pytest.fixture(scope="session")
def tiny():
    """The golden export in ONNX Runtime."""
    return load(GOLDEN / "tiny", threads=1)


@pytest.fixture(scope="session")
def expected():
    """Silhouettes, lengths and what PyTorch said of them."""
    return np.load(GOLDEN / "tiny_expected.npz")


@pytest.fixture
def folder(tmp_path):
    """A copy of the golden export, to be spoilt."""
    return Path(shutil.copytree(GOLDEN / "tiny", tmp_path / "tiny"))


@pytest.fixture
def reseal():
    """Write a graph into a folder and its sha256 into the manifest, as an attacker would."""
    return write_sealed


def write_sealed(folder, name, data):
    import hashlib

    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
