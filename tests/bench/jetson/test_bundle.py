"""Bundle of a Jetson: its contents, anonymization, and refusals when it is read."""

import getpass
import io
import json
import os
import socket
import zipfile
from types import SimpleNamespace

import pytest
from standin_bench import raising, ran
from typer.testing import CliRunner

from cstl_edge.bench.jetson import bundle
from cstl_edge.bench.jetson.anonymize import local_names, scrub
from cstl_edge.bench.record import Case, Row, write_rows
from cstl_edge.cli.app import app
from cstl_edge.errors import BackendUnavailable, DataError, StorageError

BOARDS = {"orin_nano": ("orin-nano", "36.4.3"), "agx_orin": ("agx-orin", "36.4.3")}
BOARDS["thor"] = ("agx-thor", "38.2.2")
SERIAL = "1420221011984"
ROWS = [
    Row(
        run="20261125T000000Z-ab12",
        scenario="graph",
        contender="onnxruntime float32",
        ran=ran(backend="onnxruntime", options={"files": "frames.onnx, head.onnx"}),
        case=Case(graph="full", batch=1, frames=30),
        samples={"wall": [1.5, 1.25]},
        conditions={"settings": {"power_mode": {"name": "15W", "id": 0}}},
        environment={"cpu": "Cortex-A78AE", "cores": 6, "commit": "0123456789ab"},
    ),
    Row(
        run="20261125T000000Z-ab12",
        scenario="end_to_end",
        contender="onnxruntime float32",
        case=Case(source="synthetic://4?size=640x360"),
        skipped="no engines in /home/wanda/models/cstl: cstl-edge build /home/wanda/models/cstl",
        warnings=["rtsp://wanda:secret@10.0.0.7/stream1 stopped answering"],
        details={"host": "wandas-robot", "note": "made on wandas-robot by wanda, see ~/notes.txt"},
    ),
]


EXAMINED = {
    "environment": {"cpu": "Cortex-A78AE"},
    "findings": [
        {"what": "gst-launch", "state": "ok", "detail": "/usr/bin/gst-launch-1.0"},
        {"what": "tensorrt", "state": "missing", "remedy": "see /home/wanda/.local/lib"},
    ],
}


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "results.jsonl"
    write_rows(path, ROWS)
    return path


@pytest.fixture(autouse=True)
def owner(monkeypatch):
    """A machine of one Wanda, whose board is quick to ask."""
    monkeypatch.setattr(getpass, "getuser", lambda: "wanda")
    monkeypatch.setattr(socket, "gethostname", lambda: "wandas-robot.local")
    line = "RAM 2211/7620MB (lfb 7x4MB) CPU [4%@729,off] VDD_IN 4521mW/4480mW"
    monkeypatch.setattr("cstl_edge.bench.power.tegrastats.excerpt", lambda: [line])


@pytest.mark.parametrize("name", BOARDS)
def test_boards_are_known_by_their_files(name, board_tree):
    detected = bundle.detect_board(board_tree(name))
    assert (detected.short, detected.l4t) == BOARDS[name]


@pytest.mark.parametrize("tree", ["pc", None])
def test_a_machine_that_is_no_jetson_is_one_line_and_an_exit_code(tree, board_tree, tmp_path):
    message = r"this is no Jetson: .*\. Leave out --jetson"
    with pytest.raises(BackendUnavailable, match=message) as e:
        bundle.detect_board(board_tree(tree) if tree else tmp_path)
    assert e.value.exit_code == 4
    assert "\n" not in str(e.value)


def test_advice_names_what_is_missing_and_the_command(board_tree, tmp_path):
    lines = bundle.advice(tmp_path / "model", board_tree("pc"))
    assert len(lines) == 2
    assert lines[0].endswith(f"cstl-edge build {tmp_path / 'model'}")
    assert "no power rails" in lines[1]
    (only,) = bundle.advice(tmp_path / "model", board_tree("thor"))
    assert only.startswith("no TensorRT engines")


def test_engines_of_another_machine_are_reported(board_tree, tmp_path):
    (tmp_path / "model" / "engines" / "tensorrt").mkdir(parents=True)
    (only,) = bundle.advice(tmp_path / "model", board_tree("thor"))
    assert only.startswith("the TensorRT engines are not used: ")


def packed(results, board_tree, name="orin_nano"):
    root = board_tree(name)
    path = bundle.pack_bundle(results, bundle.detect_board(root), EXAMINED, root)
    with zipfile.ZipFile(path) as archive:
        return path, {x: archive.read(x).decode() for x in archive.namelist()}


def test_the_bundle_holds_all_that_figures_depend_on(results, board_tree):
    path, texts = packed(results, board_tree)
    assert path.parent == results.parent
    assert path.name.startswith("cstl-edge-bench-orin-nano-2")
    members = "results.jsonl board.json doctor.json tegrastats.txt README.txt"
    assert set(texts) == {*members.split()}
    board = json.loads(texts["board.json"])
    assert board["model"].startswith("NVIDIA Jetson Orin Nano")
    assert board["l4t"] == "36.4.3"
    assert {"power_mode", "jetson_clocks"} <= set(board)
    assert "VDD_IN 4521mW" in texts["tegrastats.txt"]
    assert "2 rows" in texts["README.txt"]
    assert json.loads(texts["doctor.json"])["findings"][0]["detail"] == "/usr/bin/gst-launch-1.0"


def test_figures_come_back_as_they_were(results, board_tree):
    path, _ = packed(results, board_tree)
    first, second = bundle.read_bundle(path)
    assert first == ROWS[0]
    assert second.case == ROWS[1].case
    assert second.skipped == "no engines in <path>: cstl-edge build <path>"


def test_a_bundle_has_no_personal_names(results, board_tree):
    path, texts = packed(results, board_tree)
    everything = path.name + "".join(texts.values())
    for word in ("wanda", "wandas-robot", SERIAL, "secret", "10.0.0.7", "/home", "notes.txt"):
        assert word not in everything, word
    assert str(results.parent) not in everything


@pytest.mark.parametrize("user", ["wall", "graph", "full", "backend", "onnxruntime"])
def test_people_may_be_called_like_what_is_measured(user, results, board_tree, monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: user)
    path, _ = packed(results, board_tree)
    first = bundle.read_bundle(path)[0]
    for field in ("samples", "case", "contender"):
        assert getattr(first, field) == getattr(ROWS[0], field)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("saved to /home/ann/x y/model.onnx: done", "saved to <path>: done"),
        ("~/runs/1.jsonl", "<path>"),
        ("/dev/video0 x/home/ann/a", "<path>"),
        (r"C:\Users\ann\model.onnx", "<path>"),
        ("/dev/video0, /sys/class/hwmon/hwmon1", "/dev/video0, /sys/class/hwmon/hwmon1"),
        ("mail ann.b@example.org now", "mail <address> now"),
        ("rtsp://ann:pw@10.1.2.3:554/h264", "<address>"),
        ("synthetic://4?size=640x360", "synthetic://4?size=640x360"),
        ("TensorRT 10.3.0.30 for CUDA 12.6.68.1", "TensorRT 10.3.0.30 for CUDA 12.6.68.1"),
        ("Host 10.1.2.3 is down, so 8.8.8.8", "Host <ip> is down, so 8.8.8.8"),
        ("at 192.168.0.12 and fe:ed:01:02:03:04", "at <ip> and <hardware address>"),
        ("GPU-5f3c1f22-0a1b-4c2d-9e3f-001122334455", "<id>"),
        ("12.5 ms and/or 1/2, CPU [4%@729,off]", "12.5 ms and/or 1/2, CPU [4%@729,off]"),
        ("OpenVINO 2025.3.0, R36.4.3", "OpenVINO 2025.3.0, R36.4.3"),
        ("by ann on box-7, not annual", "by <name> on <name>, not annual"),
    ],
)
def test_personal_text_is_removed_and_other_text_is_left(text, left):
    assert scrub(text, {"ann", "box-7"}) == left


def test_keys_that_are_personal_go_with_their_values():
    personal = {"hostname": "x", "serial_number": "y", "gpu_uuid": "z", "user": "u", "mac": "m"}
    kept = {"own_cores": 1.0, "chrome": 2.0, "serialised": 3.0, "h2d": 4.0}
    assert scrub({"a": [personal | kept]}, ()) == {"a": [kept]}


def test_names_that_say_nothing_are_not_taken_out(monkeypatch, board_tree):
    monkeypatch.setattr(getpass, "getuser", lambda: "nvidia")
    monkeypatch.setattr(socket, "gethostname", lambda: "ubuntu")
    assert local_names(board_tree("thor")) == {"wandas-robot", SERIAL}
    assert scrub("nvidia-smi on ubuntu", local_names(board_tree("thor"))) == "nvidia-smi on ubuntu"


def test_a_file_without_rows_is_refused(tmp_path, board_tree):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(DataError, match=r"expected results in .*; got none: run the scenarios"):
        packed(empty, board_tree)


def test_a_full_disk_is_one_line_that_says_where_the_results_are(results, board_tree, monkeypatch):
    full = raising(OSError(28, "No space left on device"))
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        StorageError, match=r"cannot write .*: No space left .* are in .*results"
    ) as e:
        packed(results, board_tree)
    assert "\n" not in str(e.value)


def archive_of(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "members",
    [
        {"../../etc/cron.d/x": "x", "results.jsonl": ""},
        {"/etc/passwd": "x", "results.jsonl": ""},
        {"results.jsonl/": "", "board.json": "{}"},
        {"board.json": "{}"},
        {"results.jsonl": "", "more.jsonl": ""},
        {},
    ],
    ids=str,
)
def test_members_that_are_not_ours_are_refused(members, tmp_path):
    path = archive_of(tmp_path / "b.zip", **members)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"expected README\.txt, board\.json, .*; got"):
        bundle.read_bundle(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_same_member_twice_is_refused(tmp_path):
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("results.jsonl", "a")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("results.jsonl", "b")
    with pytest.raises(DataError, match=r"got results\.jsonl, results\.jsonl"):
        bundle.read_bundle(path)


def test_a_bomb_is_read_up_to_the_limit_only(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "MAX_RESULTS_BYTES", 1000)
    path = archive_of(tmp_path / "b.zip", **{"results.jsonl": b"\n" * 10_000_000})
    assert path.stat().st_size < 20_000
    sizes, read = [], zipfile.ZipExtFile.read
    counted = lambda self, n=-1: sizes.append(n) or read(self, n)  # noqa: E731
    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted)
    with pytest.raises(DataError, match=r"expected at most 1000 bytes of results\.jsonl"):
        bundle.read_bundle(path)
    assert sizes == [1001]


def test_a_file_that_is_too_large_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "MAX_BUNDLE_BYTES", 10)
    path = archive_of(tmp_path / "b.zip", **{"results.jsonl": "x"})
    with pytest.raises(DataError, match="of at most 10 bytes; got"):
        bundle.read_bundle(path)


def damaged():
    data = bytearray(archive_of(io.BytesIO(), **{"results.jsonl": b"abc" * 4000}).getvalue())
    data[60:70] = b"\xff" * 10
    return data


def locked():
    data = bytearray(archive_of(io.BytesIO(), **{"results.jsonl": b"abc"}).getvalue())
    data[6] |= 1  # the flag of encryption, in both headers
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return data


@pytest.mark.parametrize("make", [damaged, locked, lambda: b"hello", None])
def test_a_file_that_is_no_bundle_is_one_line(make, tmp_path):
    if make is not None:
        (tmp_path / "b.zip").write_bytes(make())
    with pytest.raises(DataError, match="expected a bundle of `cstl-edge bench --jetson`") as error:
        bundle.read_bundle(tmp_path / "b.zip")
    assert "\n" not in str(error.value)


def test_a_bad_row_is_reported_by_its_line(tmp_path):
    path = archive_of(tmp_path / "b.zip", **{"results.jsonl": '{"scenario": "x", "version": 1}'})
    with pytest.raises(DataError, match=r"b\.zip: results\.jsonl, line 1: "):
        bundle.read_bundle(path)


def test_the_command_is_refused_where_this_is_no_jetson(monkeypatch):
    measured = raising(AssertionError("measured in vain"))
    monkeypatch.setattr("cstl_edge.bench.run.make_context", measured)
    monkeypatch.setattr(bundle.detect_board, "__defaults__", (bundle.ROOT / "nowhere",))
    done = CliRunner().invoke(app, ["bench", "--jetson"])
    assert isinstance(done.exception, BackendUnavailable)


def test_the_command_ends_with_the_file(monkeypatch, board_tree, results):
    root = board_tree("thor")
    for function in (bundle.detect_board, bundle.advice, bundle.pack_bundle):
        monkeypatch.setattr(function, "__defaults__", (root,))
    context = SimpleNamespace(engines=None, folder=results.parent / "model")
    monkeypatch.setattr("cstl_edge.bench.run.make_context", lambda options, progress: context)
    monkeypatch.setattr("cstl_edge.cli.bench._run_and_print", lambda *_: results)
    monkeypatch.setattr(
        "cstl_edge.doctor.report", lambda: SimpleNamespace(to_dict=lambda: EXAMINED)
    )
    done = CliRunner().invoke(app, ["bench", "--jetson"])
    assert done.exit_code == 0, done.output
    (path,) = results.parent.glob("*.zip")
    assert f"to be sent to us: {path}" in done.output
    assert "no TensorRT engines" in done.output
    assert bundle.read_bundle(path)[0] == ROWS[0]
