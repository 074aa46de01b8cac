"""`cstl-edge bench` as it is typed."""

import json
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cstl_edge.bench.record import read_rows
from cstl_edge.cli.bench import _interruptible
from cstl_edge.measure.stats import percentile

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
SHORT = ["bench", "--short", "--scenario", "graph", "--threads", "1"]


def call(*words, cwd=None, timeout=100):
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "cstl_edge.cli", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, cwd=cwd, check=False
    )


def test_the_short_form_measures_and_says_where_its_rows_are(tmp_path):
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
    assert "Traceback" not in done.stderr


def test_json_prints_the_rows_that_are_in_the_file(tmp_path):
    out = tmp_path / "rows.jsonl"
    done = call(*SHORT, "--model", GOLDEN / "tiny", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert printed == [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--scenario", "speed"], 2, "expected --scenario of"),
        (["--short", "--full"], 2, "contradict"),
        (["--network", "tiny"], 2, "shipped, paper"),
        (["--model", "nowhere"], 4, "nowhere"),
        (["--jetson"], 4, "no Jetson"),
    ],
)
def test_what_is_wrong_is_one_line_and_its_exit_code(words, code, told, tmp_path):
    done = call("bench", *words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert told in done.stderr
    assert not [*tmp_path.iterdir()]


def test_ctrl_c_keeps_what_is_there(tmp_path):
    out = tmp_path / "rows.jsonl"
    command = [sys.executable, "-m", "cstl_edge.cli", "bench", "--scenario", "graph", "--full"]
    command += ["--model", str(GOLDEN / "tiny_reduced"), "--out", str(out), "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    waited = time.monotonic() + 60
    while not (out.exists() and out.read_text().count("\n")) and time.monotonic() < waited:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    text, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    assert str(out) in told
    assert [*read_rows(out)]
    assert "graph" in text


def test_ctrl_c_is_itself_wherever_it_falls():
    def interrupted_import():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as err:
            raise ImportError("initialization failed") from err

    before = signal.getsignal(signal.SIGINT)  # ignored in a test run in the background
    with pytest.raises(KeyboardInterrupt), _interruptible():
        interrupted_import()
    with pytest.raises(ImportError), _interruptible():
        raise ImportError("without a signal")
    assert signal.getsignal(signal.SIGINT) is before


def test_help_names_the_page_and_the_script_is_the_verb(capsys):
    assert "report" in call("bench", "--help").stdout
    script = runpy.run_path(str(ROOT / "benchmarks" / "bench.py"))
    assert script["main"](["--help"]) == 0
    assert "--scenario" in capsys.readouterr().out
