"""ONNX Runtime backend: the answers of PyTorch, and the checks of its inputs."""

import subprocess
import sys

import numpy as np
import pytest
from golden_export import GOLDEN, edit_manifest

from cstl_edge.errors import DataError, ModelError
from cstl_edge.runtime import load


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def encoder(request):
    """The golden export in each runtime of a CPU."""
    pytest.importorskip(request.param)
    return load(GOLDEN / "tiny", request.param, threads=1)


def test_embeddings_agree_with_pytorch(encoder, expected):
    embedded = encoder.encode(expected["silhouettes"], expected["lengths"])
    np.testing.assert_allclose(embedded.embedding, expected["embedding"], atol=1e-5)
    np.testing.assert_array_equal(embedded.salient_frames, expected["salient_frames"])
    assert (embedded.embedding.dtype, embedded.salient_frames.dtype) == (np.float32, np.int32)


def test_a_batch_equals_its_sequences_alone_and_answers_stay(encoder, expected):
    """An answer belongs to its caller: the next call does not change it."""
    first = encoder.encode(expected["silhouettes"], expected["lengths"])
    copies = first.embedding.copy(), first.salient_frames.copy()
    for i, length in enumerate(expected["lengths"]):
        alone = encoder.encode(expected["silhouettes"][i : i + 1, :length])
        np.testing.assert_allclose(alone.embedding[0], expected["embedding"][i], atol=1e-5)
    encoder.encode(~expected["silhouettes"], expected["lengths"])
    np.testing.assert_array_equal(first.embedding, copies[0])
    np.testing.assert_array_equal(first.salient_frames, copies[1])


def test_inputs_in_any_layout_are_read_and_left_alone(encoder, expected):
    silhouettes = expected["silhouettes"][0]
    plain = encoder.frames(silhouettes)
    spread = silhouettes.repeat(2, 0)[::2]
    assert not spread.flags.c_contiguous
    spread.flags.writeable = False
    np.testing.assert_array_equal(encoder.frames(spread), plain)
    np.testing.assert_array_equal(spread, expected["silhouettes"][0])


def test_encoder_info_describes_onnx_runtime(folder):
    for threads in (1, 2):
        info = load(folder, threads=threads).info
        assert (info.backend, info.provider) == ("onnxruntime", "CPUExecutionProvider")
        assert (info.precision, info.threads) == ("float32", threads)
    assert (info.size, info.parts, info.channels, info.embedding) == ((16, 12), 4, 16, 8)
    assert info.model_name == "tiny"
    assert len(info.weights_sha256) == 64
    assert info.impostors["sizes"] == [1, 2]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_closed_encoder_is_refused(expected, backend):
    pytest.importorskip(backend)
    encoder = load(GOLDEN / "tiny", backend)
    encoder.close()
    with pytest.raises(ModelError, match="closed"):
        encoder.encode(expected["silhouettes"])


def test_wrong_inputs_of_the_incremental_head_are_refused(tiny):
    rows, short = np.zeros((4, 3, 16), np.float32), np.zeros((4, 3, 15), np.float32)
    message = r"expected features as float32 \[4, m, 16\]; got float32 \[4, 3, 15\]"
    with pytest.raises(DataError, match=message):
        tiny.taps(short)
    with pytest.raises(DataError, match=r"expected sums as .* got float64"):
        tiny.mix(rows, rows.astype(np.float64))
    kept = {name: np.zeros((1, 4, 3, width), np.float32) for name, width in WIDTHS.items()}
    with pytest.raises(DataError, match=r"expected slots in 0\.\.2; got \[\[1, 2, 3\]\]"):
        tiny.slide(kept, np.array([[1, 2, 3]]))
    with pytest.raises(DataError, match=r"expected slots as int64 \[1, 3\]; got"):
        tiny.slide(kept, np.array([[1, 2]]))


WIDTHS = {"kept_values": 48, "kept_logits": 48, "kept_judged": 3, "kept_gates": 32}


@pytest.mark.parametrize("missing", ["taps.onnx", "mix.onnx", "slide.onnx"])
def test_a_folder_without_the_incremental_head_embeds_whole_windows(folder, expected, missing):
    """Such as one of an earlier version, which had other graphs."""
    edit_manifest(folder, lambda m: m["files"].update({"local.onnx": m["files"].pop(missing)}))
    encoder = load(folder)
    assert not encoder.info.slides
    embedded = encoder.encode(expected["silhouettes"], expected["lengths"])
    np.testing.assert_allclose(embedded.embedding, expected["embedding"], atol=1e-5)
    with pytest.raises(ModelError, match=r"not all of taps\.onnx, mix\.onnx, slide\.onnx: export"):
        encoder.taps(np.zeros((4, 2, 16), np.float32))


def test_loading_needs_no_other_runtime_in_this_process(folder):
    """Not even to have a child process check a folder, nor where OpenVINO is installed."""
    code = (
        "import sys, cstl_edge.runtime.backends.openvino\n"
        "from cstl_edge.runtime import load; load(sys.argv[1])\n"
        "assert not {'torch', 'onnx', 'openvino'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=100)
