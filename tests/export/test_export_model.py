"""Export of a checkpoint: files, manifest, refusals; a failed export leaves nothing."""

import hashlib
import importlib.util
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from cstl_edge.checkpoint.weights import load_checkpoint, save_checkpoint
from cstl_edge.errors import ConfigError, ExportError, ModelError, StorageError
from cstl_edge.export import export_model as module
from cstl_edge.export import folder as folder_module
from cstl_edge.export.export_model import export_model
from cstl_edge.export.folder import attach
from cstl_edge.runtime import load
from cstl_edge.runtime.manifest import read_manifest

ROOT = Path(__file__).parents[2]
IMPOSTORS = {"sizes": [1, 8], "fpir": [0.01], "threshold": [[2.0], [1.0]], "data": "test people"}


def siblings(folder):
    return sorted(path.name for path in folder.parent.iterdir())


def test_the_manifest_lists_what_is_in_the_folder(weights, exported):
    manifest = read_manifest(exported)
    incremental = {"taps.onnx", "mix.onnx", "slide.onnx"}
    assert set(manifest.files) == {
        "frames.onnx",
        "head.onnx",
        "full.onnx",
        "step.onnx",
        *incremental,
    }
    for name, digest in manifest.files.items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest
    _, _ = load_checkpoint(weights, manifest.weights_sha256)
    assert (manifest.model, manifest.opset, manifest.precision) == ("small", 17, "float32")
    assert manifest.config["classes"] == 0
    assert manifest.impostors is None
    assert manifest.parity["graphs"]["full.onnx"]["embedding"]["max_abs_error"] < 1e-5
    assert {"cstl_edge", "torch", "onnx", "onnxruntime"} <= set(manifest.created_with)
    halves = {name for name, report in manifest.simplified.items() if report["float16_weights"]}
    assert halves == {"frames.onnx", "head.onnx", "full.onnx", "slide.onnx"}


def test_every_runtime_computes_the_same(weights, exported):
    reference, runtime = load(weights), load(exported)
    assert runtime.info.weights_sha256 == reference.info.weights_sha256
    rng = np.random.default_rng(5)
    silhouettes = rng.integers(0, 256, (4, 11, 16, 12), dtype=np.uint8)
    lengths = np.array([11, 1, 7, 10], np.int32)
    ours, theirs = runtime.encode(silhouettes, lengths), reference.encode(silhouettes, lengths)
    np.testing.assert_allclose(ours.embedding, theirs.embedding, atol=1e-5)
    np.testing.assert_array_equal(ours.salient_frames, theirs.salient_frames)


def test_frames_then_head_is_full(exported):
    import onnxruntime as ort

    rng = np.random.default_rng(6)
    silhouettes = rng.integers(0, 256, (3, 8, 16, 12), dtype=np.uint8)
    lengths = np.array([8, 3, 5], np.int32)
    full = ort.InferenceSession(exported / "full.onnx", providers=["CPUExecutionProvider"])
    whole = full.run(None, {"silhouettes": silhouettes, "lengths": lengths})
    parts = load(exported).encode(silhouettes, lengths)
    np.testing.assert_allclose(whole[0], parts.embedding, atol=1e-5)
    np.testing.assert_array_equal(whole[1], parts.salient_frames)


def test_a_subset_of_the_graphs_is_enough(edge):
    assert sorted(p.name for p in edge.iterdir()) == [
        "frames.onnx",
        "head.onnx",
        "manifest.json",
        "mix.onnx",
        "slide.onnx",
        "step.onnx",
        "taps.onnx",
    ]
    assert read_manifest(edge).simplified["head.onnx"]["reason"] == "not asked for"
    load(edge).close()


def test_weights_in_float32_lose_nothing(network, tmp_path):
    save_checkpoint(tmp_path / "w.safetensors", network(), {})
    manifest = export_model(
        tmp_path / "w.safetensors", tmp_path / "out", graphs=("head",), simplify=False
    )
    assert manifest.model == "w"
    assert manifest.simplified["head.onnx"]["float16_weights"] == 0


def test_the_incremental_head_comes_with_the_head_alone(weights, tmp_path):
    manifest = export_model(weights, tmp_path / "out", graphs=("frames",), simplify=False)
    assert set(manifest.files) == {"frames.onnx"}


def test_incremental_head_weights_outside_products_are_stored_as_half(exported):
    """Products of two convolutions are no float16 numbers, and no sums of such are."""
    large = {"taps.onnx": 1, "mix.onnx": 0, "slide.onnx": 0}
    for name, singles in large.items():
        tensors = onnx.load(exported / name).graph.initializer
        assert len([t for t in tensors if t.data_type == 1 and len(t.raw_data) >= 4096]) == singles
    slide = onnx.load(exported / "slide.onnx").graph.initializer
    assert [t for t in slide if t.data_type == onnx.TensorProto.FLOAT16]


def test_without_ssfl_there_are_no_salient_frames(network, tmp_path):
    save_checkpoint(tmp_path / "w.safetensors", network(salient=False), {})
    export_model(
        tmp_path / "w.safetensors", tmp_path / "out", graphs=("frames", "head"), simplify=False
    )
    encoder = load(tmp_path / "out")
    assert not encoder.info.slides
    assert encoder.encode(np.zeros((1, 3, 16, 12), np.uint8)).salient_frames.tolist() == [[-1] * 4]


def test_export_over_tolerance_leaves_nothing(weights, tmp_path, monkeypatch):
    def spoil(model, factors):
        product = [n for n in model.graph.node if n.op_type == "MatMul"][-1]  # the embedding
        weight = next(t for t in model.graph.initializer if t.name == product.input[1])
        array = onnx.numpy_helper.to_array(weight) * np.float32(1.1)
        weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
        return 0

    monkeypatch.setattr(module, "store_as_half", spoil)
    with pytest.raises(ExportError, match=r"head\.onnx: embedding differs from PyTorch by"):
        export_model(weights, tmp_path / "out", graphs=("head",), simplify=False)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_earlier_one(weights, exported, monkeypatch):
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    neighbours = siblings(exported)

    def full_disk(path, data):
        path.write_bytes(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module, "_write", full_disk)
    with pytest.raises(StorageError, match=r"cannot write .*No space left"):
        export_model(weights, exported, graphs=("frames",), simplify=False)
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == before
    assert siblings(exported) == neighbours


def test_an_earlier_export_is_replaced_whole(weights, edge, tmp_path):
    out = Path(shutil.copytree(edge, tmp_path / "out"))
    export_model(weights, out, graphs=("frames",), simplify=False)
    assert {path.name for path in out.iterdir()} == {"frames.onnx", "manifest.json"}
    assert siblings(out) == ["out"]


def test_a_folder_of_something_else_is_not_touched(weights, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ExportError, match=r"holds thesis\.tex. Choose another folder"):
        export_model(weights, tmp_path)
    with pytest.raises(ExportError, match="expected a new folder"):
        export_model(weights, tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_unknown_graphs_and_missing_weights(weights, tmp_path):
    with pytest.raises(ConfigError, match=r"expected graphs of frames, head, full; got \['tail'\]"):
        export_model(weights, tmp_path / "out", graphs=("tail",))
    with pytest.raises(ModelError, match=r"missing\.safetensors"):
        export_model(tmp_path / "missing.safetensors", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_report_of_an_evaluation_is_attached(edge, tmp_path):
    out = Path(shutil.copytree(edge, tmp_path / "out"))
    before = read_manifest(out)
    attach(out, impostors=IMPOSTORS)
    attach(out, card={"trained_on": "Walkers"})
    after = read_manifest(out)
    assert after.files == before.files
    assert (after.impostors, after.card) == (IMPOSTORS, {"trained_on": "Walkers"})
    assert load(out).info.impostors == IMPOSTORS


@pytest.mark.parametrize("change", [{"threshold": [[1.0]]}, {"fpir": [0.1, 0.2]}, {"sizes": None}])
def test_impostors_whose_sides_do_not_fit(exported, change):
    with pytest.raises(ModelError, match="impostors: expected"):
        attach(exported, impostors={**IMPOSTORS, **change})
    assert read_manifest(exported).impostors is None


@pytest.mark.skipif(not importlib.util.find_spec("onnxslim"), reason="no simplifier here")
def test_the_same_weights_give_the_same_bytes(weights, exported, tmp_path):
    torch.rand(7)
    again = export_model(weights, tmp_path / "again", graphs=("full",))  # the others' nodes too
    assert again.files["full.onnx"] == read_manifest(exported).files["full.onnx"]


def test_script_exports_too(weights, tmp_path):
    command = [sys.executable, str(ROOT / "export" / "run_export.py"), str(weights)]
    command += ["-o", str(tmp_path / "out"), "--graphs", "frames", "--no-simplify", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["files"]) == {"frames.onnx"}


def test_missing_weights_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run_export.py", "none.safetensors", "-o", "out"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "export" / "run_export.py"), run_name="__main__")
    assert ended.value.code == 4
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: cannot read none.safetens")
