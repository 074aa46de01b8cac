"""Rows of one call as tables of a terminal."""

import pytest

from cstl_edge.bench.record import Case, Row
from cstl_edge.bench.report import console
from cstl_edge.cli.bench import _show


def row_of(context, scenario, wall=(1.0, 2.0), **fields):
    given = {"contender": "pytorch float32", "case": Case(graph="full", batch=1)}
    samples = {"wall": list(wall)} if wall else {}
    return Row(run=context.run, scenario=scenario, samples=samples, **given | fields)


def test_ratios_are_taken_within_a_case_of_one_run(plain):
    usual = row_of(plain, "graph", [8.0, 9.0, 10.0])
    fast = row_of(plain, "graph", [2.0, 3.0, 4.0], contender="onnxruntime float32")
    paced = row_of(plain, "graph", [1.0], contender="x", case=Case(graph="full", paced_hz=25.0))
    later = fast.model_copy(update={"run": "another"})
    rows = [fast, usual, paced, later]
    assert console.times_as_fast(fast, rows) == 3.0
    assert console.times_as_fast(usual, rows) == 1.0
    assert console.times_as_fast(paced, rows) is None
    assert console.times_as_fast(later, rows) is None


def test_the_table_shows_figures_and_what_was_skipped(plain, capsys):
    rows = [
        row_of(plain, "graph", [8.0]),
        row_of(plain, "graph", [2.0], contender="[bold]onnx[/bold]", warnings=["unstable: 9 %"]),
        row_of(plain, "graph", (), contender="tensorrt float16", skipped="no engines\nhere"),
        row_of(plain, "multi", (), values={"walkers": 24.0}),
        row_of(plain, "end_to_end", (), case=Case(source="walk.mp4"))
        .model_copy(update={"samples": {"decode": [1.5], "segment": [7.0]}}),
    ]  # fmt: skip
    _show(rows)
    text = capsys.readouterr().out
    assert "[bold]onnx[/bold]" in text
    assert "4.0" in text
    assert "unstable" in text
    assert "9 %" not in text
    assert r"tensorrt float16 (full, batch 1): no engines\nhere" in text
    assert "walkers 24" in text
    assert "decode 1.50 ms, segment 7.00 ms" in text


def test_headline_lines_show_the_best_figures(plain, monkeypatch):
    pytest.importorskip("scipy", reason="needs scipy")
    case = Case(graph="streaming", frames=30, hop=1)
    fast = {"values": {"times_as_fast_as_usual": 93.0}, "contender": "onnxruntime int8"}
    rows = [
        row_of(plain, "single", [1.0] * 9, case=case, **fast),
        row_of(plain, "multi", (), values={"walkers": 24.0}, contender="onnxruntime float32"),
    ]
    first, second = console.headline_lines(rows)
    assert first.startswith("93")
    assert "usual way" in first
    assert "onnxruntime int8" in first
    assert second.startswith("24 walkers")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert console.headline_lines(rows) == []
