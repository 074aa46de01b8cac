"""Benchmark rows and their files of JSON lines."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from standin_bench import ran

from cstl_edge.bench.record import SCHEMA, Case, Check, ModelUnderTest, Row, read_rows, write_rows
from cstl_edge.errors import DataError

FULL = Row(
    run="2026-11-25",
    scenario="graph",
    contender="onnxruntime float16",
    ran=ran("float16", "float32", threads=2, options={"layout": "nchwc"}),
    subject=ModelUnderTest(
        name="cstl", weights_sha256="ab" * 32, size=(64, 44), parts=16, widths=(32,)
    ),
    case=Case(graph="head", batch=3, frames=30, paced_hz=25.0),
    samples={"wall": [3.25, 1.5, 2.0], "late": [0.1, 0.0, 0.2]},
    dropped={"throttled": 2},
    values={"sequences_per_s": 12.5},
    intervals={"sequences_per_s": (12.0, 13.0)},
    check=Check(reference="onnxruntime float32", cosine=0.9999, max_abs=1e-4, ok=True),
    warnings=["few samples"],
    details={"tried": [{"walkers": 3, "holds": True}], "name": "Zoë"},
    conditions={"before": {"cpu_mhz": {"min": 800.0}}},
    environment={"cpu": "x", "commit": None},
)
LINE = json.loads(FULL.model_dump_json())
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def file(path, *lines):
    path.write_text("".join(x if isinstance(x, str) else json.dumps(x) + "\n" for x in lines))
    return path


def test_rows_come_back_as_they_were(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    skipped = Row(run="r", scenario="power", contender="c", skipped="no sensor")
    write_rows(path, [FULL])
    write_rows(path, [skipped])
    assert list(read_rows(path)) == [FULL, skipped]
    expected = {"run": "r", "scenario": "power", "contender": "c", "skipped": "no sensor"}
    written = json.loads(path.read_text(encoding="utf-8").splitlines()[1])
    assert written == expected | {"version": SCHEMA}


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(min_size=1), st.lists(FINITE), max_size=3))
def test_samples_come_back_to_the_bit(tmp_path_factory, samples):
    path = tmp_path_factory.getbasetemp() / "samples.jsonl"
    path.unlink(missing_ok=True)
    write_rows(path, [FULL.model_copy(update={"samples": samples})])
    (read_back,) = read_rows(path)
    assert read_back.samples == samples


def test_other_benchmarks_and_empty_lines_are_left_out(tmp_path):
    path = file(tmp_path / "r.jsonl", {"benchmark": "gallery"}, "\n", "[1]\n", LINE)
    assert list(read_rows(path)) == [FULL]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{\n", "line 2: expected a JSON object"),
        ('{"scenario": ' + "[" * 100_000 + "\n", "line 2: expected a JSON object"),
        (LINE | {"version": 2}, "expected results of version 1; got 2"),
        ({k: v for k, v in LINE.items() if k != "version"}, "expected results of version 1; got"),
        (LINE | {"scenario": "No such"}, "line 2: scenario"),
        (LINE | {"surprise": 1}, "line 2: surprise"),
        (LINE | {"samples": {"wall": ["slow"]}}, "line 2: samples.wall.0"),
        (LINE | {"samples": {"wall": [math.nan]}}, "NaN, which is no number"),
        (LINE | {"values": {"fnir": math.inf}}, "Infinity, which is no number"),
        (json.dumps(LINE).replace("12.5", "1e999") + "\n", "values.sequences_per_s"),
        (json.dumps(LINE).replace("800.0", "-1e999") + "\n", "line 2: conditions"),
        (LINE | {"case": {"graph": "tail"}}, "line 2: case.graph"),
    ],
)
def test_lines_that_are_no_rows_are_refused(tmp_path, line, message):
    path = file(tmp_path / "r.jsonl", LINE, line)
    with pytest.raises(DataError) as caught:
        list(read_rows(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_before_a_bad_line_were_yielded(tmp_path):
    rows = read_rows(file(tmp_path / "r.jsonl", LINE, "{\n"))
    assert next(rows) == FULL


def test_endless_lines_missing_files_and_other_bytes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("cstl_edge.bench.record.LONGEST_LINE", 1000)
    with pytest.raises(DataError, match="at most 1000 characters"):
        list(read_rows(file(tmp_path / "long.jsonl", "x" * 5000)))
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    for name in ("none.jsonl", "bytes.jsonl"):
        with pytest.raises(DataError, match="expected a file of results"):
            list(read_rows(tmp_path / name))


@pytest.mark.parametrize(
    "fields",
    [
        {"samples": {"wall": [math.nan]}},
        {"values": {"fnir": math.inf}},
        {"details": {"tried": [{"p99": math.nan}]}},
        {"conditions": {"before": {"load": (1.0, -math.inf)}}},
        {"environment": {"load_1min": math.nan}},
    ],
)
def test_a_value_that_json_cannot_hold_is_refused_where_it_is_made(fields):
    with pytest.raises(ValidationError):
        Row(run="r", scenario="graph", contender="c", **fields)
