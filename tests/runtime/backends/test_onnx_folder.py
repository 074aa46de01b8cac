"""Exported folders: choice of the precision, checks, and distance from PyTorch."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from golden_export import GOLDEN, edit_manifest, reseal

from cstl_edge.errors import ConfigError, ModelError
from cstl_edge.runtime import load
from cstl_edge.runtime.backends import onnx_folder
from cstl_edge.runtime.graph_format import graph_of
from cstl_edge.runtime.manifest import read_manifest


@pytest.fixture
def reduced(tmp_path):
    """A copy of the golden export in three precisions, to be spoilt."""
    return Path(shutil.copytree(GOLDEN / "tiny_reduced", tmp_path / "reduced"))


@pytest.mark.parametrize(("precision", "atol"), [("float32", 1e-5), ("fp16", 5e-3), ("int8", 0.1)])
def test_every_precision_is_near_pytorch(expected, precision, atol):
    encoder = load(GOLDEN / "tiny_reduced", threads=1, precision=precision)
    assert encoder.info.precision == precision
    embedded = encoder.encode(expected["silhouettes"], expected["lengths"])
    same = embedded.salient_frames == expected["salient_frames"]
    assert same.mean() > 0.7
    np.testing.assert_allclose(embedded.embedding[same], expected["embedding"][same], atol=atol)
    assert embedded.embedding.dtype == np.float32
    assert (np.abs(embedded.embedding - expected["embedding"])[same].max() < 1e-5) == (
        precision == "float32"
    )


def test_int8_has_a_float32_head_on_a_cpu_and_an_fp16_one_on_a_gpu(reduced):
    manifest = read_manifest(reduced)
    assert manifest.graphs("int8", "onnxruntime") == ("frames.int8.onnx", "head.onnx")
    assert manifest.graphs("int8", "tensorrt") == ("frames.int8.onnx", "head.fp16.onnx")


@pytest.mark.parametrize(
    ("default", "flags", "chosen"),
    [
        ("float32", {"avx2", "avx512_vnni"}, "float32"),
        ("int8", {"avx2", "avx512_vnni"}, "int8"),
        ("int8", {"avx2", "avx_vnni"}, "int8"),
        ("int8", {"neon", "asimddp"}, "int8"),
        ("int8", {"avx2", "avx512f"}, "float32"),
        ("int8", set(), "float32"),  # a system that does not tell
    ],
)
def test_the_default_precision_depends_on_the_folder_and_the_processor(
    reduced, monkeypatch, caplog, default, flags, chosen
):
    caplog.set_level("INFO")
    monkeypatch.setattr(onnx_folder, "processor", lambda: ("a CPU", flags))
    edit_manifest(reduced, cpu_default=default)
    assert load(reduced).info.precision == chosen
    assert load(reduced, precision=default).info.precision == default
    messages = [r.getMessage() for r in caplog.records if r.name.endswith(".onnx_folder")]
    assert len(messages) == (default == "int8")
    if (default, chosen) == ("int8", "float32"):
        assert messages[0].startswith("precision: float32, though")
        assert "this one has none of amx_int8, avx512_vnni" in messages[0]


def test_older_manifests_default_to_float32(folder):
    for key in ("cpu_default", "precisions"):
        edit_manifest(folder, lambda manifest, key=key: manifest.pop(key))
    assert load(folder).info.precision == "float32"


def test_missing_or_unknown_precisions_are_refused(folder):
    with pytest.raises(ModelError, match=r"expected fp16 graphs for onnxruntime in 'tiny'; it hol"):
        load(folder, precision="fp16")
    with pytest.raises(
        ConfigError, match="expected a precision of float32, fp16, int8, bfloat16; got 'bf"
    ):
        load(folder, precision="bf16")
    with pytest.raises(ConfigError, match="cannot be chosen for backend 'tensorrt'"):
        load(folder, backend="tensorrt", precision="fp16")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["precisions"]["int8"].update(frames="../frames.onnx"),
        lambda m: m["precisions"]["int8"].update(heads={"cuda": "head.onnx"}),
        lambda m: m["precisions"].update(fp8=m["precisions"]["int8"]),
        lambda m: m.update(cpu_default="fp16"),
    ],
)
def test_a_contradictory_manifest_is_refused(reduced, change):
    edit_manifest(reduced, change)
    with pytest.raises(ModelError, match=r"manifest\.json: (precisions|cpu_default)"):
        load(reduced)


def test_files_outside_the_manifest_are_refused(reduced):
    edit_manifest(reduced, lambda m: m["files"].pop("frames.int8.onnx"))
    load(reduced, precision="fp16").close()
    with pytest.raises(ModelError, match=r"expected frames\.int8\.onnx in the manifest"):
        load(reduced, precision="int8")


def test_a_graph_of_another_kind_under_a_precisions_name_is_refused(untrusted, reduced):
    reseal(reduced, "frames.int8.onnx", (reduced / "head.onnx").read_bytes())
    with pytest.raises(ModelError, match=r"frames\.int8\.onnx: expected inputs"):
        load(reduced, precision="int8")


@pytest.mark.parametrize(
    ("name", "graph"),
    [
        ("frames.onnx", "frames"),
        ("head.fp16.onnx", "head"),
        ("frames.int8.onnx", "frames"),
        ("frames.fp8.onnx", "frames.fp8.onnx"),
        ("frames.fp16.int8.onnx", "frames.fp16.int8.onnx"),
    ],
)
def test_file_names_determine_the_graph(name, graph):
    assert graph_of(name) == graph
