"""Verb `bench`: rows and tables, mistakes, Ctrl-C, help."""

import json
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import call

from cstl_edge.bench.record import read_rows
from cstl_edge.bench.scenarios import graph
from cstl_edge.bench.scenarios.open import SCENARIOS
from cstl_edge.measure.stats import percentile

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
SHORT = ["bench", "--short", "--scenario", "graph", "--threads", "1"]


def test_short_form_measures_and_prints_the_file_of_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "SHORT_CASES", graph.SHORT_CASES[1:])  # `full`
    done = call(*SHORT, "--model", GOLDEN / "tiny_reduced", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "runs" / "bench").glob("*.jsonl")
    assert str(file.relative_to(tmp_path)) in done.stderr
    rows = [*read_rows(file)]
    assert {row.run for row in rows} == {file.stem}
    measured = {row.contender: row for row in rows if row.samples and row.case.graph == "full"}
    assert {"onnxruntime float32", "onnxruntime float16", "onnxruntime int8"} <= {*measured}
    row = measured["onnxruntime float32"]
    assert row.check.ok
    assert row.ran.threads == 1
    assert f"{percentile(row.samples['wall'], 50):.2f}" in done.stdout


def test_json_prints_the_rows_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "SHORT_CASES", graph.SHORT_CASES[:1])
    file = tmp_path / "rows.jsonl"
    done = call(*SHORT, "--model", GOLDEN / "tiny", "--out", file, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert printed == [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--scenario", "grap"], 2, "did you mean graph?"),
        (["--short", "--full"], 2, "contradict"),
        (["--network", "tiny"], 2, "shipped or paper"),
        (["--model", "nowhere"], 4, "nowhere"),
        (["--jetson"], 4, "no Jetson"),
    ],
)
def test_mistakes_are_one_line_with_their_exit_code(words, code, text, tmp_path):
    done = call("bench", *words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert text in done.stderr
    assert not [*tmp_path.iterdir()]


def test_ctrl_c_keeps_the_rows_so_far(tmp_path):
    out = tmp_path / "rows.jsonl"
    command = [sys.executable, "-m", "cstl_edge.cli", "bench", "--scenario", "graph", "--full"]
    command += ["--model", str(GOLDEN / "tiny_reduced"), "--out", str(out), "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out.exists() and out.read_text().count("\n")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    text, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert str(out) in err
    assert [*read_rows(out)]
    assert "graph" in text


IMPORTED = """
import signal
signal.raise_signal(signal.SIGINT)
complete = True
"""
IMPORTING = """
import time
from cstl_edge.cli.bench import _interruptible

try:
    with _interruptible():
        import interrupted_module
        time.sleep(20)
except KeyboardInterrupt:
    print(interrupted_module.complete)
"""


def test_ctrl_c_during_an_import_comes_when_the_import_has_ended(tmp_path):
    (tmp_path / "interrupted_module.py").write_text(IMPORTED)
    command = [sys.executable, "-c", IMPORTING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("True\n", "")


INTERRUPTED = """
import signal
from cstl_edge.cli.bench import _interruptible

def interrupted_import():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as err:
        raise ImportError("initialization failed") from err

def caught(run):
    try:
        with _interruptible():
            run()
    except BaseException as err:
        return type(err).__name__

before = signal.getsignal(signal.SIGINT)  # ignored in a test run in the background
print(caught(interrupted_import), caught(lambda: __import__("no_such_module")))
assert signal.getsignal(signal.SIGINT) is before
"""


def test_ctrl_c_during_an_import_stays_a_keyboard_interrupt():
    """In a process of its own: where OpenVINO used AMX, pytest's signal stack is too small."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.split() == ["KeyboardInterrupt", "ModuleNotFoundError"], done.stderr


def test_help_names_report_and_scenarios_and_the_script_is_the_verb(monkeypatch, capsys):
    done = call("bench", "--help")
    assert done.returncode == 0
    assert "report" in done.stdout
    words = " ".join(done.stdout.replace("│", " ").split())
    assert all(name in words for name in SCENARIOS)
    monkeypatch.setattr(sys, "argv", ["bench.py", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "benchmarks" / "bench.py"), run_name="__main__")
    assert "--scenario" in capsys.readouterr().out
