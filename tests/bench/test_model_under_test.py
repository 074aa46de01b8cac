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
    impostors = json.loads((GOLDEN / "tiny" / "manifest.json").read_text())["impostors"]
    assert json.loads((folder / "manifest.json").read_text())["impostors"] == impostors
    int8 = model_under_test.onnx_files(manifest, "int8", "full")
    assert int8 == ["frames.int8.onnx", "head.onnx"]


def test_a_precision_whose_gate_is_closed_is_left_out_and_reported(exporter):
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

    digests = []
    for place in ("one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
        small = {"widths": [4, 8, 16, 16], "parts": 4, "embedding": 8}
        path = model_under_test.random_checkpoint(small)
        digests.append(read_header(path)[0]["weights_sha256"])
    assert digests[0] == digests[1]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of the package's sources."""
    ignored = shutil.ignore_patterns("assets", "csrc", "__pycache__")
    return shutil.copytree(PACKAGE, tmp_path_factory.mktemp("package") / "p", ignore=ignored)


def imports(path):
    """The package's files that a file imports, or names in a table."""
    for start, names in IMPORT.findall(path.read_text(encoding="utf-8")):
        place = PACKAGE.joinpath(*start.split(".")[1:])
        for name in re.findall(r"\w+", names) or [""]:
            yield from (x for x in (place / f"{name}.py", place.with_suffix(".py")) if x.is_file())


@pytest.fixture(scope="module")
def exporter_files():
    """The files that decide what an export contains: all that the exporter imports, by path.

    Without those that measure, report errors and open files: they decide nothing about a graph.
    """
    files = [PACKAGE / "export" / "export_model.py"]
    files += [PACKAGE / "export" / "quantization" / "calibration_data.py"]
    for path in files:  # grows as it goes
        files += [x for x in dict.fromkeys(imports(path)) if x not in files]
    names = [path.relative_to(PACKAGE) for path in files]
    undecided = {"errors.py", "extras.py", "foreign.py", "measure", "opencv.py", "output.py"}
    undecided.add("registry.py")
    return [name.as_posix() for name in names if name.parts[0] not in undecided]


def test_a_byte_of_every_file_of_the_exporter_changes_its_fingerprint(sources, exporter_files):
    rooms = {name.split("/")[0] for name in exporter_files}
    paths = [path for room in rooms for path in (sources / room).rglob("*.py")]
    paths += [sources / room for room in rooms if room.endswith(".py")]
    assert {*DECISIVE} <= {*exporter_files} <= {x.relative_to(sources).as_posix() for x in paths}
    before = exporter_fingerprint(sources)
    for path in paths:
        data = path.read_bytes()
        if not data:
            continue
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert exporter_fingerprint(sources) != before, path
        path.write_bytes(data)
    assert exporter_fingerprint(sources) == before == exporter_fingerprint()


def test_the_imports_of_the_exporter_are_in_its_fingerprint(exporter_files):
    rooms = {name.split("/")[0] for name in exporter_files}
    assert rooms == {*model_under_test.EXPORTER_SOURCES}
