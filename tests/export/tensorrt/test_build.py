"""Engine building: whole or not at all, with records, opened where they were built.

TensorRT and the GPU are stand-ins, in the builder's child process and in this one.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from cstl_edge.errors import BackendUnavailable, ExportError, ModelError, StorageError
from cstl_edge.export.folder import write_files
from cstl_edge.export.tensorrt.build import BuildOptions, build_engines
from cstl_edge.export.tensorrt.sources import Sizes
from cstl_edge.runtime import graph_format, load, model_check
from cstl_edge.runtime.manifest import read_manifest
from cstl_edge.runtime.tensorrt.record import EngineRecord

GOLDEN = Path(__file__).parents[2] / "golden"
OPTIONS = BuildOptions(sizes=Sizes(walkers=8, window=6, frames=12), plugin="off")


def _runs(process):
    """Tell whether a process does anything; one that waits for its parent's notice does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def left_behind(folder):
    """Every file under `engines`, hidden ones too."""
    return (
        sorted(p.name for p in (folder / "engines").rglob("*"))
        if (folder / "engines").exists()
        else []
    )


def test_engines_open_and_compute_what_pytorch_computed(folder, machine):
    steps = []
    built = build_engines(folder, OPTIONS, lambda *step: steps.append(step))
    assert set(built) == {"frames", "head"}
    assert left_behind(folder) == [
        "frames.plan", "frames.plan.json", "head.plan", "head.plan.json", "tensorrt",
    ]  # fmt: skip
    expected = np.load(GOLDEN / "tiny_expected.npz")
    encoder = load(folder, backend="tensorrt")
    embedded = encoder.encode(expected["silhouettes"], expected["lengths"])
    np.testing.assert_allclose(embedded.embedding, expected["embedding"], atol=1e-5)
    assert ("frames", "Building", 1.0) in steps
    assert steps[-1][0] == "all"


def test_the_record_holds_source_and_target(folder, here):
    built = build_engines(folder, OPTIONS)["head"]
    manifest = read_manifest(folder)
    assert built.onnx_sha256 == manifest.files["head.onnx"]
    assert built.weights_sha256 == manifest.weights_sha256
    assert (built.library, built.version, built.gpu, built.sm) == ("tensorrt", "10.3.0", "Orin", 87)
    assert (built.cuda, built.plugin, built.precision) == ("12.6", None, "float32")
    assert built.audit["part_gather"] == "function body"
    assert set(built.audit["network"]["MATRIX_MULTIPLY"]) == {"FLOAT"}
    assert built.audit["engine"]["outputs"]["INT32"] >= 1
    assert built.parity["min_cosine"] > 0.99999
    assert built.parity["flips"] == 0
    live, long = (profile["features"] for profile in built.profiles)
    assert (live.min, live.opt, live.max) == ((1, 1, 4, 16), (8, 6, 4, 16), (8, 6, 4, 16))
    assert (long.min, long.opt, long.max) == ((1, 1, 4, 16), (1, 12, 4, 16), (4, 12, 4, 16))
    assert (built.multiprocessors, built.board) == (8, None)
    assert built.memory["plan"] > 0
    numbers = [8 * 6 * 4 * 16 + 8, 4 * 12 * 4 * 16 + 4]
    assert built.memory["activations"] == [8 * count for count in numbers]


@pytest.mark.parametrize(
    ("precision", "files"),
    [
        ("fp16", {"frames": "frames.fp16.onnx", "head": "head.fp16.onnx"}),
        ("int8", {"frames": "frames.int8.onnx", "head": "head.fp16.onnx"}),
    ],
)
def test_reduced_precisions_are_built_from_their_own_graphs(
    reduced, here, precision, files, monkeypatch
):
    timed = lambda candidates, _: dict.fromkeys(candidates, 1.0)  # noqa: E731
    monkeypatch.setattr("cstl_edge.export.tensorrt.build.time_candidates", timed)
    built = build_engines(reduced, replace(OPTIONS, precision=precision))
    assert {graph: record.onnx for graph, record in built.items()} == files
    assert built["head"].audit["network"]["MATRIX_MULTIPLY"]["HALF"] == 8
    assert ("QUANTIZE" in built["frames"].audit["network"]) == (precision == "int8")
    assert load(reduced, backend="tensorrt").info.precision == precision


def test_int8_frames_are_kept_only_where_they_are_faster_than_fp16(reduced, here, monkeypatch):
    """Both are built and timed, and both times are recorded."""
    times = {"int8": 0.30, "fp16": 0.20}
    monkeypatch.setattr(
        "cstl_edge.export.tensorrt.build.time_candidates",
        lambda candidates, _: {name: times[name] for name in candidates},
    )
    built = build_engines(reduced, replace(OPTIONS, precision="int8"))
    assert {graph: record.precision for graph, record in built.items()} == {
        "frames": "fp16",
        "head": "fp16",
    }
    assert built["frames"].onnx == "frames.fp16.onnx"
    assert built["frames"].audit["precision_ms"] == times
    assert built["frames"].options["precision"] == "int8"  # a rebuild decides anew
    assert load(reduced, backend="tensorrt").info.precision == "fp16"


def test_int8_without_fp16_to_compare_with_is_refused(reduced, here):
    path = reduced / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["precisions"]["fp16"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match=r"no fp16 to compare it with") as refused:
        build_engines(reduced, replace(OPTIONS, precision="int8"))
    assert "--precision fp16,int8" in refused.value.remedy


def test_float16_is_what_is_built_where_the_folder_has_it(reduced, here):
    assert build_engines(reduced, OPTIONS)["frames"].precision == "fp16"


def test_the_rebuild_command_asks_for_the_same(folder, here):
    options = replace(OPTIONS, precision="float32", workspace_mib=300, level=2)
    built = build_engines(folder, options)
    here(version="10.9.0", device={"name": "H100", "sm": 90})
    with pytest.raises(ModelError) as refused:
        load(folder, backend="tensorrt")
    command = str(refused.value).split("Build it here: ")[1]
    words = "--precision float32 --workspace 300 --level 2 --walkers 8 --window 6 --frames 12"
    for option in words.split(" --"):
        assert option in command
    assert built["frames"].options["plugin"] == "off"


def test_building_needs_no_torch():
    """A Jetson builds its engines without it."""
    code = "import sys, cstl_edge.export.tensorrt.build, cstl_edge.export.tensorrt.child\n"
    code += "assert not {'torch', 'tensorrt'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


# What goes wrong


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("nothing", "gave no engine: no implementation for node"),
        ("abort", "died"),
        ("killed", "for its memory"),
    ],
)
def test_a_builder_that_fails_leaves_nothing(folder, machine, does, message):
    machine(build=does)
    with pytest.raises(ExportError, match=message):
        build_engines(folder, OPTIONS)
    assert left_behind(folder) == []


def test_earlier_engines_stay_when_a_build_fails(folder, here):
    build_engines(folder, OPTIONS)
    before = {p: p.read_bytes() for p in (folder / "engines" / "tensorrt").iterdir()}
    here(build="nothing")
    with pytest.raises(ExportError):
        build_engines(folder, OPTIONS)
    assert {p: p.read_bytes() for p in (folder / "engines" / "tensorrt").iterdir()} == before


def test_a_missing_tensorrt_is_reported_with_the_next_step(folder, machine, tmp_path):
    (tmp_path / "site" / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10')\n")
    with pytest.raises(BackendUnavailable, match=r"libnvinfer\.so\.10.*pip install tensorrt-cu12"):
        build_engines(folder, OPTIONS)
    assert left_behind(folder) == []


def test_a_tensorrt_that_is_too_old(folder, here):
    here(version="8.6.1")
    with pytest.raises(BackendUnavailable, match=r"expected TensorRT 10\.3"):
        build_engines(folder, OPTIONS)


def test_a_graph_of_ours_that_was_spoilt_never_reaches_the_builder(folder, machine):
    machine(build="killed")
    data = (folder / "head.onnx").read_bytes()
    (folder / "head.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="changed or damaged"):
        build_engines(folder, OPTIONS)


def spoilt(change):
    """Return what makes of the bytes of a graph those of a changed one."""

    def make(data):
        model = onnx.load_model_from_string(data)
        change(model)
        return model.SerializeToString()

    return make


def external(model):
    tensor = next(t for t in model.graph.initializer if t.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


GRAPHS = {
    "truncated": (lambda data: data[: len(data) // 2], "expected an ONNX file"),
    "another opset": (
        spoilt(lambda m: setattr(m.opset_import[0], "version", 18)),
        "expected opset",
    ),
    "no function body": (spoilt(lambda m: m.ClearField("functions")), "has no function body"),
    "external data": (spoilt(external), "expected all weights inside the file"),
    "wrong inputs": (spoilt(lambda m: setattr(m.graph.input[0], "name", "x")), "expected inputs"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_is_not_ours_never_reaches_the_builder(folder, machine, monkeypatch, name):
    """Its sha256 is right, so only a look inside tells; here that is no child's, for speed."""
    change, message = GRAPHS[name]
    data = change((folder / "head.onnx").read_bytes())
    (folder / "head.onnx").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["head.onnx"] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    state, requests = machine(), []

    def look(graphs, shape):
        for file, content in graphs.items():
            graph_format.check_graph(file, content, shape)

    monkeypatch.setattr(model_check, "probe", look)
    monkeypatch.setattr(
        "cstl_edge.export.tensorrt.build.run_child", lambda *request: requests.append(request)
    )
    with pytest.raises(ModelError, match=rf"^head\.onnx: .*{message}"):
        build_engines(folder, OPTIONS)
    assert not requests
    assert state.deserialised == 0
    assert not (folder / "engines").exists()


def test_a_build_killed_half_way_is_never_found_and_swept_by_the_next(folder, machine, request):
    machine(build="never end")
    code = (
        "import sys; from cstl_edge.export.tensorrt.build import *; "
        "from cstl_edge.export.tensorrt.sources import Sizes; "
        "build_engines(sys.argv[1], BuildOptions(plugin='off', sizes=Sizes(8, 6, 12)), "
        "lambda *step: print(step, flush=True))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, str(folder)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)
    while b"Building" not in running.stdout.readline():
        pass
    (builder,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    running.send_signal(signal.SIGKILL)
    running.wait()
    while _runs(builder):  # it notices that nobody listens any more
        time.sleep(0.1)
    assert left_behind(folder) == []
    dead = running.pid
    part = folder / "engines" / f".tensorrt.{dead}.part"
    part.mkdir(parents=True)  # as if it had been killed while writing
    (part / "frames.plan").write_bytes(b"half")
    with pytest.raises(ModelError, match="no engines"):
        load(folder, backend="tensorrt")
    request.getfixturevalue("here")()
    build_engines(folder, OPTIONS)
    assert not part.exists()
    load(folder, backend="tensorrt").close()


def test_engines_set_aside_by_a_killed_build_come_back(folder, here):
    build_engines(folder, OPTIONS)
    place = folder / "engines" / "tensorrt"
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    place.rename(place.with_name(f".tensorrt.{int(dead.stdout)}.old"))
    write_files(folder / "engines" / "other", {})
    write_files(place, {"frames.plan": b"new"})
    assert left_behind(folder) == ["frames.plan", "other", "tensorrt"]


def test_a_folder_that_cannot_be_written(folder, here):
    (folder / "engines").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        build_engines(folder, OPTIONS)


def test_a_record_survives_its_file(folder, here):
    built = build_engines(folder, OPTIONS)["frames"]
    text = (folder / "engines" / "tensorrt" / "frames.plan.json").read_text()
    assert EngineRecord.model_validate(json.loads(text)) == built
    assert time.strptime(built.created_utc, "%Y-%m-%dT%H:%M:%SZ")
