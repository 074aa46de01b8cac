"""Exports that are cached, and the fingerprint of the exporter that their folders carry."""

import json
import re
import shutil
import types

import pytest
from standin_bench import GOLDEN, quiet

from cstl_edge.bench import model_under_test
from cstl_edge.bench.model_under_test import PACKAGE, exporter_fingerprint
from cstl_edge.errors import ExportError

DECISIVE = [
    "arrays.py", "checkpoint/weights.py", "evaluation/closed_set.py",
    "export/checks/accuracy_gate.py", "export/checks/parity.py", "export/export_model.py",
    "export/quantization/calibration_data.py", "export/quantization/fp16.py",
    "export/quantization/int8_head.py", "export/quantization/int8_trunk.py",
    "export/weight_storage.py", "model/export_head.py", "model/incremental_head.py", "numerics.py",
    "runtime/manifest.py", "runtime/streaming/rings.py", "silhouette.py", "walkers/collection.py",
    "walkers/render.py",
]  # fmt: skip
"""Files that decide what an export contains, one of each kind at least."""
IMPORT = re.compile(r"(cstl_edge(?:\.\w+)+)(?: import (\w+(?:, \w+)*|\([^)]*\)))?")


@pytest.fixture
def exporter(monkeypatch, tmp_path):
    """Let an export be a copy of the golden one; refusing the precisions that a test names."""
    pytest.importorskip("torch", reason="needs torch")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls, refused = [], set()

    def export(weights, folder, precisions, gather, progress):
        calls.append(precisions)
        if refused & {*precisions}:
            raise ExportError(f"{refused}: the gate is closed")
        shutil.copytree(GOLDEN / "tiny_reduced", folder)

    monkeypatch.setattr("cstl_edge.export.export_model.export_model", export)
    return types.SimpleNamespace(calls=calls, refused=refused)


def test_an_export_is_made_once_and_kept(exporter):
    weights = GOLDEN / "tiny.safetensors"
    folder = model_under_test.export_once(weights, quiet)
    assert model_under_test.export_once(weights, quiet) == folder
    assert exporter.calls == [("float32", "fp16", "int8")]
    manifest, graphs = model_under_test.read_export(folder)
    assert {"frames.int8.onnx", "full.fp16.onnx", "full.onnx"} <= {*graphs}
    kept = json.loads((GOLDEN / "tiny" / "manifest.json").read_text())["impostors"]
    assert json.loads((folder / "manifest.json").read_text())["impostors"] == kept
    int8 = model_under_test.graph_files(manifest, "int8", "full")
    assert int8 == ["frames.int8.onnx", "head.onnx"]


def test_a_precision_whose_gate_is_closed_is_left_out_and_told(exporter):
    exporter.refused.add("int8")
    lines = []
    model_under_test.export_once(GOLDEN / "tiny.safetensors", lines.append)
    assert exporter.calls[1:] == [("float32", "fp16")]
    assert "the gate is closed" in lines[1]


def test_a_refused_float32_is_an_error(exporter):
    exporter.refused.add("float32")
    with pytest.raises(ExportError):
        model_under_test.export_once(GOLDEN / "tiny.safetensors", quiet)


def test_random_weights_are_always_the_same(monkeypatch, tmp_path):
    pytest.importorskip("torch", reason="needs torch")
    from cstl_edge.checkpoint.weights import read_header

    found = []
    for place in ("one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
        small = {"widths": [4, 8, 16, 16], "parts": 4, "embedding": 8}
        path = model_under_test.random_checkpoint(small)
        found.append(read_header(path)[0]["weights_sha256"])
    assert found[0] == found[1]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of the package's sources."""
    ignored = shutil.ignore_patterns("assets", "csrc", "__pycache__")
    return shutil.copytree(PACKAGE, tmp_path_factory.mktemp("package") / "p", ignore=ignored)


@pytest.mark.parametrize("name", DECISIVE)
def test_a_byte_of_the_exporter_changes_its_fingerprint(sources, name):
    before, path = exporter_fingerprint(sources), sources / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert exporter_fingerprint(sources) != before
    path.write_bytes(data)
    assert exporter_fingerprint(sources) == before == exporter_fingerprint()


def imports(path):
    """The package's files that a file imports, or names in a table."""
    for start, names in IMPORT.findall(path.read_text(encoding="utf-8")):
        place = PACKAGE.joinpath(*start.split(".")[1:])
        for name in re.findall(r"\w+", names) or [""]:
            yield from (x for x in (place / f"{name}.py", place.with_suffix(".py")) if x.is_file())


def test_all_that_the_exporter_imports_is_in_its_fingerprint():
    """But what measures, reports errors and opens files: it decides nothing about a graph."""
    found = [PACKAGE / "export" / "export_model.py"]
    found += [PACKAGE / "export" / "quantization" / "calibration_data.py"]
    for path in found:  # grows as it goes
        found += [x for x in dict.fromkeys(imports(path)) if x not in found]
    reached = {path.relative_to(PACKAGE).parts[0] for path in found}
    undecided = {"errors.py", "measure", "opencv.py", "registry.py"}
    assert reached - undecided == {*model_under_test.EXPORTER_SOURCES}
