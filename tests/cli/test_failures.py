"""Errors: one line for people, one object for programs, the same exit code for the same mistake."""

import errno
import json
import subprocess
import sys
from importlib.util import find_spec

import pytest
from command_line import call

from cstl_edge.cli import failures
from cstl_edge.cli.failures import as_package_error, json_wanted, run_verb, take_debug
from cstl_edge.errors import CstlEdgeError, DataError, SourceUnavailable, StorageError

VIDEO = "nobody.mp4"


needs_jinja2 = pytest.mark.skipif(find_spec("jinja2") is None, reason="needs jinja2")


@pytest.mark.parametrize(
    ("words", "code", "name", "message"),
    [
        (["live"], 2, "usage", "expected SOURCE, which is missing"),
        (["live", VIDEO, "--fpir", "2"], 2, "usage", "--fpir a number from 0 to 1, got '2'"),
        (["live", VIDEO, "--duration", "-5"], 2, "usage", "--duration a number of at least 0.1"),
        (["live", VIDEO, "--rotate", "45"], 2, "usage", "--rotate 0, 90, 180 or 270, got '45'"),
        (["live", VIDEO, "--flop"], 2, "usage", "no such option: --flop"),
        (["lve", VIDEO], 2, "usage", "Did you mean 'live'"),
        (["eval", "--protocol", "casiab"], 2, "usage", "did you mean casia-b?"),
        (["eval", "--precision", "fp17"], 2, "usage", "float32, fp16, int8 or bfloat16"),
        (["eval", "--split", "none"], 2, "configuration", "split"),
        (["build", "--precision", "fp17"], 2, "usage", "float32, fp16 or int8"),
        (["build"], 2, "configuration", "belongs to the package"),
        (["data", "verify", ".", "--dataset", "casia"], 2, "configuration", "casia-b"),
        (["live", VIDEO], 5, "source-unavailable", VIDEO),
        pytest.param(
            ["bench", "report", "gone.jsonl"], 3, "bad-data", "gone.jsonl", marks=needs_jinja2
        ),
        (["live", "synthetic://1", "--model", "gone"], 4, "model-refused", "gone"),
        (["gallery", "list", "--gallery", "gone.db"], 6, "gallery", "gone.db"),
    ],
)  # fmt: skip
def test_under_json_a_mistake_is_one_object_and_for_people_one_line(
    tmp_path, monkeypatch, words, code, name, message
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    done = call(*words, "--json", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    (record,) = json.loads(done.stdout).values()
    assert set(record) == {"code", "message", "remedy", "exit_code"}
    assert (record["code"], record["exit_code"]) == (name, code)
    assert message in f"{record['message']} {record['remedy']}"
    plain = call(*words, cwd=tmp_path)
    assert (plain.returncode, plain.stdout) == (code, "")
    assert plain.stderr.splitlines()[-1].startswith(f"error: {record['message']}")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError(errno.ENOSPC, "No space left", "w.mp4"), StorageError, "cannot write w.mp4"),
        (PermissionError(errno.EACCES, "denied", "x"), StorageError, "cannot write x: denied"),
        (ConnectionResetError(104, "reset"), SourceUnavailable, "connection"),
        (MemoryError(), CstlEdgeError, "out of memory"),
        (KeyError("x"), CstlEdgeError, "made a mistake: KeyError"),
    ],
)
def test_any_exception_becomes_an_error_of_the_package(error, kind, message):
    try:
        raise error
    except Exception as err:
        made = as_package_error(err)
    assert type(made) is kind
    assert message in str(made)


def test_a_mistake_of_ours_is_one_line_with_its_place_and_with_debug_a_traceback(capsys):
    def fail():
        raise ZeroDivisionError("by zero")

    assert run_verb(fail, as_json=False, debug=False) == 1
    assert "ZeroDivisionError in test_failures.py:" in capsys.readouterr().err
    assert run_verb(fail, as_json=True, debug=True) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "internal"
    assert "Traceback" in err


@pytest.mark.parametrize(
    ("ending", "code"), [(KeyboardInterrupt(), 130), (BrokenPipeError(), 141), (DataError("x"), 3)]
)
def test_endings_have_their_exit_codes(monkeypatch, ending, code):
    def end():
        raise ending

    monkeypatch.setattr(failures, "_discard_output", lambda: None)
    assert run_verb(end, as_json=False, debug=False) == code


def test_options_count_before_the_double_dash_alone():
    assert json_wanted(["live", "--json"])
    assert not json_wanted(["live", "--", "--json"])
    words = ["--debug", "live", "--", "--debug"]
    assert take_debug(words)
    assert words == ["live", "--", "--debug"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
def test_output_that_cannot_be_written_is_an_error_of_storage():
    command = [sys.executable, "-m", "cstl_edge", "--help"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 6
    assert done.stderr.startswith("error: cannot write the output: No space left on device")
    assert done.stderr.count("\n") == 1


def test_names_survive_a_terminal_that_lacks_their_letters(tmp_path):
    script = "from cstl_edge.cli.failures import run_verb\n"
    script += "raise SystemExit(run_verb(lambda: print('Zoë 李'), as_json={}, debug=False))"
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "/bin"}
    for as_json, expected in ((False, b"Zo\\xeb \\u674e"), (True, "Zoë 李".encode())):
        command = [sys.executable, "-c", script.format(as_json)]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60)
        assert done.stdout.strip() == expected, done.stderr
