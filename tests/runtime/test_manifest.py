"""Manifest: any content from outside ends in a manifest or a ModelError."""

import json
import os

import pytest
from golden_export import edit_manifest
from hypothesis import given, settings
from hypothesis import strategies as st

from cstl_edge.errors import ModelError
from cstl_edge.runtime import load
from cstl_edge.runtime.manifest import MAX_MANIFEST_BYTES, Manifest, read_file, read_manifest


def test_a_manifest_is_read(folder):
    manifest = read_manifest(folder)
    assert manifest.shape.channels == 16
    graphs = ("frames", "head", "full", "taps", "mix", "slide")
    assert set(manifest.files) == {f"{graph}.onnx" for graph in graphs}
    assert manifest.shape.kept == {"values": 48, "logits": 48, "judged": 3, "gates": 32}


def test_keys_of_later_versions_are_ignored(folder):
    edit_manifest(folder, future={"a": 1})
    assert read_manifest(folder).model == "tiny"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 4}, "format"),
        ({"matching": {"distance": "manhattan"}}, r"matching\.distance"),
        ({"matching": {"distance": "cosine", "file": "../x.npz"}}, r"matching\.file"),
        ({"precision": "float16"}, "precision"),
        ({"weights_sha256": "0" * 63}, "weights_sha256"),
        ({"weights_sha256": "0" * 64 + "\n"}, "weights_sha256"),
        ({"files": {"../frames.onnx": "0" * 64}}, "files"),
        ({"files": {"/etc/passwd": "0" * 64}}, "files"),
        ({"files": {"sub/frames.onnx": "0" * 64}}, "files"),
        ({"files": {}}, "files"),
        ({"config": {}}, "size"),
        ({"config": {"size": [64, 44], "widths": [1, 2, 3], "parts": 2, "embedding": 2}}, "widths"),
        ({"config": {"size": [64, 10**9], "widths": [1] * 4, "parts": 2, "embedding": 2}}, "size"),
        ({"impostors": 3}, "impostors"),
    ],
)
def test_a_wrong_value_is_named_in_the_error(folder, changes, message):
    edit_manifest(folder, **changes)
    with pytest.raises(ModelError, match=rf"manifest\.json: {message}.*Export the model again"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": NaN}']
)
def test_content_that_is_no_json_is_refused(folder, content):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"manifest\.json"):
        load(folder)


def test_a_huge_manifest_is_not_read(folder):
    with (folder / "manifest.json").open("ab") as file:
        file.truncate(MAX_MANIFEST_BYTES + 1)
    with pytest.raises(ModelError, match="at most"):
        read_manifest(folder)


def test_a_missing_manifest_is_refused(folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(ModelError, match=r"manifest\.json is missing"):
        load(folder)


def test_a_missing_folder_is_named_without_control_characters(tmp_path):
    with pytest.raises(ModelError, match=r"a\\nb is no folder"):
        load(tmp_path / "a\nb")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="regular file"):
        read_file(tmp_path / "pipe", 10)


def test_a_link_is_not_followed(folder, tmp_path):
    (tmp_path / "elsewhere").write_bytes((folder / "frames.onnx").read_bytes())
    (folder / "frames.onnx").unlink()
    (folder / "frames.onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="it is a link"):
        load(folder)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["format", "model", "config", "files", "opset", "size"]), x)))  # fmt: skip # noqa: E501
@settings(max_examples=60, deadline=None)
def test_any_json_ends_in_a_manifest_or_a_model_error(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("any")
    (folder / "manifest.json").write_text(json.dumps(value))
    with pytest.raises(ModelError):
        read_manifest(folder)


def test_a_written_manifest_reads_back_equal(folder):
    manifest = read_manifest(folder)
    assert Manifest.model_validate(json.loads(json.dumps(manifest.model_dump()))) == manifest
