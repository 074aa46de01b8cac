"""FP16 and INT8 variants of an export: files, reports, refusals."""

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from cstl_edge.checkpoint.weights import save_checkpoint
from cstl_edge.cli.app import main
from cstl_edge.cli.export import export
from cstl_edge.errors import ConfigError, ExportError, ModelError
from cstl_edge.export import export_model as export_module
from cstl_edge.export.checks import accuracy_gate
from cstl_edge.export.export_model import export_model
from cstl_edge.export.graphs import build_graph
from cstl_edge.export.quantization import calibration_data, fp16, variants
from cstl_edge.export.quantization.context import QuantizationContext
from cstl_edge.runtime import load
from cstl_edge.runtime.manifest import read_manifest

ROOT = Path(__file__).parents[3]
FLOAT32_ONLY = ROOT / "tests" / "golden" / "tiny"
PLAIN = {"graphs": ("frames", "head"), "simplify": False}


def test_the_folder_holds_every_precision(reduced, edge):
    manifest = read_manifest(reduced)
    float32 = {"frames.onnx", "head.onnx", "taps.onnx", "mix.onnx", "slide.onnx", "full.onnx"}
    half = {"frames.fp16.onnx", "head.fp16.onnx", "full.fp16.onnx"}
    int8 = {"frames.int8.onnx", "frames.int8.tensorrt.onnx"}
    steps = {"step.onnx", "step.int8.onnx"}
    assert set(manifest.files) == float32 | half | int8 | steps
    for name, digest in manifest.files.items():
        assert hashlib.sha256((reduced / name).read_bytes()).hexdigest() == digest
    alone = read_manifest(edge)
    assert alone.precisions == {}
    assert alone.cpu_default == "float32"
    assert {name: manifest.files[name] for name in alone.files} == alone.files


def test_each_backend_has_its_head(reduced):
    manifest = read_manifest(reduced)
    assert manifest.graphs("float32", "onnxruntime") == ("frames.onnx", "head.onnx")
    assert manifest.graphs("fp16", "tensorrt") == ("frames.fp16.onnx", "head.fp16.onnx")
    assert manifest.graphs("int8", "onnxruntime") == ("frames.int8.onnx", "head.onnx")
    laid_out = ("frames.int8.tensorrt.onnx", "head.fp16.onnx")
    assert manifest.graphs("int8", "tensorrt") == laid_out
    assert manifest.precisions["fp16"].full == "full.fp16.onnx"
    assert manifest.precisions["int8"].full is None


def test_manifest_holds_gate_reports(reduced):
    precisions = read_manifest(reduced).precisions
    fp16 = precisions["fp16"].judged["rounding twin"]
    assert fp16["cosine"]["smallest"] >= fp16["limits"]["cosine"] == 0.999
    assert len(fp16["cosine"]["smallest_by_part"]) == 4
    assert set(fp16["rule"]) == {"frames and head", "full"}
    for rule in fp16["rule"].values():
        assert 0 < rule["max_abs_error"] <= rule["allowed"]
    assert fp16["salient_frames"]["compared"] == 60 * 4
    assert fp16["rank1"]["float32"]["cross_view"] > 0.5
    assert fp16["decisions"]["compared"] == 36
    assert set(precisions["int8"].judged) == {"onnxruntime", "tensorrt"}
    assert len(precisions["int8"].evidence["limits"]) == 4
    assert precisions["int8"].evidence["judged_on"] == "blocks"


def test_the_islands_are_reported_with_their_range(reduced):
    rows = {row["island"]: row for row in read_manifest(reduced).precisions["fp16"].islands}
    assert set(rows) == {"gates", "sums", "ratios", "embedding"}
    for row in rows.values():
        assert 0 < row["smallest"] <= row["largest"] < np.inf
        assert row["tensors"] > 0
        assert row["reason"]


@pytest.mark.parametrize(("precision", "atol"), [("fp16", 0.01), ("int8", 0.1)])
def test_every_precision_is_loaded_and_near(reduced, precision, atol):
    silhouettes = np.random.default_rng(5).integers(0, 2, (4, 7, 16, 12), np.uint8) * np.uint8(255)
    plain = load(reduced, precision="float32")
    other = load(reduced, precision=precision)
    assert (plain.info.precision, other.info.precision) == ("float32", precision)
    assert other.info.weights_sha256 == plain.info.weights_sha256
    lengths = np.array([7, 1, 4, 6], np.int32)
    expected, actual = plain.encode(silhouettes, lengths), other.encode(silhouettes, lengths)
    same = expected.salient_frames == actual.salient_frames
    assert same.mean() > 0.7
    np.testing.assert_allclose(actual.embedding[same], expected.embedding[same], atol=atol)
    assert (actual.embedding != expected.embedding).any()


@pytest.mark.parametrize(("points", "default"), [(100.0, "int8"), (-100.0, "float32")])
def test_int8_is_the_default_only_where_it_costs_little(context, monkeypatch, points, default):
    monkeypatch.setattr(variants, "DEFAULT_DROP_POINTS", points)
    result = variants.make_variants(context, ("int8",), lambda phase: None)
    assert result.cpu_default == default
    int8 = {"frames.int8.onnx", "frames.int8.tensorrt.onnx"}
    assert set(result.graphs) == int8 | {"head.fp16.onnx"}
    assert set(result.precisions) == {"int8"}


@pytest.mark.parametrize("default", ["int8", "float32"])
def test_the_default_is_what_is_loaded(reduced, tmp_path, monkeypatch, default):
    monkeypatch.setattr(
        "cstl_edge.runtime.backends.onnx_folder.FAST_INT8", ("fpu", "fp")
    )  # any processor
    folder = Path(shutil.copytree(reduced, tmp_path / "copy"))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "cpu_default": default}))
    assert load(folder).info.precision == default


def test_an_intermediate_of_70000_fails_fp16_and_not_float32(overflowing, gather, tmp_path):
    weights, target = tmp_path / "w.safetensors", tmp_path / "out"
    save_checkpoint(weights, overflowing, {})
    export_model(weights, tmp_path / "plain", graphs=("frames",), simplify=False)
    with pytest.raises(ExportError, match=r"fp16: .*convs\.1/Conv.* reaches \d+.* ends at 65504"):
        export_model(weights, target, precisions=("fp16",), gather=gather, **PLAIN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "w.safetensors"]


def test_rounding_twin_detects_overflow_too(overflowing, gather, monkeypatch):
    """Were it only between the frames that ranges are measured on, the outputs would show it."""
    fused = overflowing.fused()
    graphs = {graph: build_graph(fused, graph) for graph in PLAIN["graphs"]}
    monkeypatch.setattr(fp16, "LARGEST_HALF", np.inf)
    with pytest.raises(ExportError, match=r"fp16: .*the smallest cosine of a part is nan"):
        variants.make_variants(
            QuantizationContext(fused, graphs, gather()), ("fp16",), lambda phase: None
        )


@pytest.mark.parametrize("name", ["FP16", "INT8"])
def test_a_closed_gate_is_an_error(context, monkeypatch, name):
    monkeypatch.setattr(accuracy_gate, name, replace(getattr(accuracy_gate, name), cosine=1.01))
    with pytest.raises(ExportError, match=rf"{name.lower()}.*cosine.*Nothing was exported"):
        variants.make_variants(context, (name.lower(),), lambda phase: None)


def test_behind_a_closed_gate_nothing_is_left(weights, gather, tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy_gate, "FP16", replace(accuracy_gate.FP16, cosine=1.01))
    with pytest.raises(ExportError, match=r"fp16: .*cosine.*Nothing was exported"):
        export_model(weights, tmp_path / "out", precisions=("fp16",), gather=gather, **PLAIN)
    assert list(tmp_path.iterdir()) == []


def test_invalid_precisions_and_graphs_are_refused(weights, gather, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(
        ConfigError, match=r"precisions of float32, fp16, int8, bfloat16; got \['fp8'\]"
    ):
        export_model(weights, out, precisions=("fp8",), gather=gather)
    with pytest.raises(ConfigError, match=r"fp16: expected the graphs frames and head"):
        export_model(weights, out, precisions=("fp16",), graphs=("frames",), gather=gather)
    with pytest.raises(ExportError, match=r"judged on Walkers: .*\(64, 44\) .*got \(16, 12\)"):
        export_model(weights, out, precisions=("fp16",))


def test_a_precision_that_is_not_there(weights):
    with pytest.raises(ModelError, match=r"expected int8 graphs .*it holds float32.*--precision"):
        load(FLOAT32_ONLY, precision="int8")
    with pytest.raises(
        ConfigError, match=r"expected a precision of float32, fp16, int8, bfloat16; got 'x'"
    ):
        load(FLOAT32_ONLY, precision="x")
    with pytest.raises(ConfigError, match=r"precision fp16 cannot be chosen for backend 'pytorch'"):
        load(weights, precision="fp16")
    assert load(weights, precision="float32").info.backend == "pytorch"


def test_a_changed_int8_file_is_refused(reduced, tmp_path):
    folder = Path(shutil.copytree(reduced, tmp_path / "copy"))
    data = bytearray((folder / "frames.int8.onnx").read_bytes())
    data[-20] ^= 1
    (folder / "frames.int8.onnx").write_bytes(data)
    load(folder, precision="float32").close()
    with pytest.raises(ModelError, match=r"frames\.int8\.onnx: expected sha256"):
        load(folder, precision="int8")


def test_int8_and_fp16_are_smaller(reduced):
    sizes = {path.name: path.stat().st_size for path in reduced.iterdir()}
    assert sizes["frames.int8.onnx"] < sizes["frames.onnx"]
    stored = onnx.load(reduced / "head.fp16.onnx").graph.initializer
    large = [t for t in stored if np.prod(t.dims) >= 1024]
    assert large
    assert {t.data_type for t in large} == {TensorProto.FLOAT16}


@pytest.fixture
def verb(reduced, gather, monkeypatch, capsys):
    """Run the verb on an earlier export; return its output and its requests."""

    def run(precisions, **changes):
        requests = []

        def exported(weights, output, *, gather, precisions, **_):
            gather((16, 12))
            requests.append(tuple(precisions))
            return read_manifest(reduced).model_copy(update=changes)

        def small(size, people, calibrate):
            requests.append((people, calibrate))
            return gather(size)

        monkeypatch.setattr(calibration_data, "gather", small)
        monkeypatch.setattr(export_module, "export_model", exported)
        export(Path("w"), Path("out"), "frames,head", False, ",".join(precisions))
        return capsys.readouterr().out, requests

    return run


def test_the_verb_prints_the_cost(verb):
    out, requests = verb(["fp16", "int8"])
    assert requests == [(calibration_data.PEOPLE, None), ("fp16", "int8")]
    for line in ("fp16, rounding twin: rank-1", "int8, onnxruntime: rank-1", "int8, tensorrt: ran"):
        assert line in out
    assert "0 of 36 searches changed" in out
    assert "other flips of 240" in out
    assert "a CPU takes int8 when nobody says and it multiplies int8 fast" in out


def test_the_verb_explains_why_float32_is_the_default(verb):
    out, _ = verb(["int8"], cpu_default="float32")
    assert "a CPU takes float32 when nobody says: int8 may cost half a point" in out
    assert "--people 100" in out


def test_the_verb_explains_a_refusal(weights, tmp_path, monkeypatch, capsys):
    command = ["export", str(weights), "-o", str(tmp_path / "out"), "--precision", "fp16,int8"]
    monkeypatch.setattr(sys, "argv", ["cstl-edge", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 4
    message = "fp16 and int8 are judged on Walkers: expected a size of (64, 44)"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bfloat16_is_judged_by_the_gate_of_fp16_and_adds_no_graph(context, monkeypatch):
    """On a stand-in that computes in float32: the gate's report and the files are what counts."""
    ov = pytest.importorskip("openvino", reason="needs openvino")
    assert ov
    monkeypatch.setattr(variants.openvino, "check_bfloat16", lambda: None)
    monkeypatch.setattr(variants.openvino, "BFLOAT16_HINT", "f32")
    result = variants.make_variants(context, ("bfloat16",), lambda phase: None)
    variant = result.precisions["bfloat16"]
    assert result.graphs == {}
    assert (variant.frames, variant.heads) == ("frames.onnx", {"openvino": "head.onnx"})
    assert variant.judged["openvino"]["limits"]["cosine"] == 0.999
    assert variant.judged["openvino"]["decisions"]["changed"] == 0
