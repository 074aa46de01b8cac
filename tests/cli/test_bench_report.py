"""`cstl-edge bench report` from files to files, and its errors."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import call
from standin_results import graph_rows, needs_bench

from cstl_edge.bench.record import write_rows


@pytest.fixture
def results(tmp_path):
    write_rows(tmp_path / "a.jsonl", list(graph_rows())[:3])
    return tmp_path / "a.jsonl"


@needs_bench
def test_a_page_and_markdown_are_written_and_named(results, tmp_path):
    page, tables = tmp_path / "out" / "page.html", tmp_path / "tables.md"
    done = call("bench", "report", results, "-o", page, "--markdown", tables)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [str(page), str(tables)]
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "| pytorch float32 |" in tables.read_text(encoding="utf-8")


@needs_bench
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["gone.jsonl"], 3),
        (["{results}", "--against", "ffff"], 2),
        (["{results}", "-o", "/dev/null/x.html"], 6),
    ],
)
def test_errors_are_one_line_with_their_exit_code(results, words, code):
    done = call("bench", "report", *(word.format(results=results) for word in words))
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@needs_bench
def test_the_script_does_the_same(results, tmp_path, capsys, monkeypatch):
    script = Path(__file__).parents[2] / "benchmarks" / "report.py"
    page = tmp_path / "x.html"
    for words, code in (([results, "-o", page], 0), ([tmp_path / "gone.jsonl"], 3)):
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, words)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(script), run_name="__main__")
        assert (end.value.code or 0) == code
    out, err = capsys.readouterr()
    assert out == f"{page}\n"
    assert err.startswith("error: ")


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2", "scipy"])
def test_a_missing_extra_is_an_error_that_names_it(results, tmp_path, missing):
    words = ["cstl-edge", "bench", "report", str(results), "-o", str(tmp_path / "x.html")]
    code = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = {words}\n"
        "from cstl_edge.cli.app import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "[bench]" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "x.html").exists()
