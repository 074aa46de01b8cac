"""ONNX Runtime says what PyTorch said, and says what it is."""

import json
import subprocess
import sys

import numpy as np
import pytest

from cstl_edge.errors import DataError, ModelError
from cstl_edge.runtime import load


def test_it_says_what_pytorch_said(tiny, expected):
    embedded = tiny.encode(expected["silhouettes"], expected["lengths"])
    np.testing.assert_allclose(embedded.embedding, expected["embedding"], atol=1e-5)
    np.testing.assert_array_equal(embedded.salient_frames, expected["salient_frames"])
    assert embedded.embedding.dtype == np.float32
    assert embedded.salient_frames.dtype == np.int32


def test_a_batch_is_its_sequences_alone(tiny, expected):
    for i, length in enumerate(expected["lengths"]):
        alone = tiny.encode(expected["silhouettes"][i : i + 1, :length])
        np.testing.assert_allclose(alone.embedding[0], expected["embedding"][i], atol=1e-5)


def test_it_says_what_it_is(folder):
    for threads in (1, 2):
        info = load(folder, threads=threads).info
        assert (info.backend, info.provider) == ("onnxruntime", "CPUExecutionProvider")
        assert (info.precision, info.threads) == ("float32", threads)
    assert (info.size, info.parts, info.channels, info.embedding) == ((16, 12), 4, 16, 8)
    assert info.model_name == "tiny"
    assert len(info.weights_sha256) == 64
    assert info.impostors["sizes"] == [1, 2]


def test_a_closed_encoder_says_so(folder, expected):
    encoder = load(folder)
    encoder.close()
    with pytest.raises(ModelError, match="closed"):
        encoder.encode(expected["silhouettes"])


def test_what_is_kept_and_slid_is_the_head(tiny, expected):
    features = tiny.frames(expected["silhouettes"][0])[None]  # [1, s, p, c]
    head = tiny.head(features, np.array([9], np.int32))
    kept = tiny.local(features, np.array([9], np.int32))
    ring = {name: np.roll(values, 4, 2) for name, values in kept.items()}
    slid = tiny.slide(ring, np.array([4], np.int32))
    np.testing.assert_allclose(slid.embedding, head.embedding, atol=1e-5)
    np.testing.assert_array_equal(slid.salient_frames, head.salient_frames)
    assert slid.salient_frames.dtype == np.int32
    with pytest.raises(DataError, match=r"expected oldest in 0\.\.8; got \[9\]"):
        tiny.slide(ring, np.array([9], np.int32))


def test_a_folder_without_the_cuts_serves_as_before(folder, expected):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["files"]["local.onnx"]
    path.write_text(json.dumps(manifest))
    encoder = load(folder)
    assert not encoder.info.slides
    embedded = encoder.encode(expected["silhouettes"], expected["lengths"])
    np.testing.assert_allclose(embedded.embedding, expected["embedding"], atol=1e-5)
    with pytest.raises(ModelError, match=r"no local\.onnx and slide\.onnx: export"):
        encoder.local(np.zeros((1, 2, 4, 16), np.float32), np.array([2], np.int32))


def test_loading_needs_neither_torch_nor_onnx_in_this_process(folder):
    code = (
        "import sys; from cstl_edge.runtime import load; load(sys.argv[1])\n"
        "assert not {'torch', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=100)
