"""trtexec: its exported files as rows, and ours beside them.

`recorded/trtexec_times.json` is of our own making, in the layout of TensorRT 8.4 to 11.1: 200
queries, digits as a C++ stream writes them. Its figures below were computed outside Python: by
`sort -g` and `awk` from the file, the places of the percentiles by C++ in single precision (of 200
sorted samples, counted from 1: p90 the 180th, p95 the 190th, p99 the 199th).
"""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import fmean, median, pstdev

import pytest

from cstl_edge.bench.record import Case, Row, read_rows, write_rows
from cstl_edge.bench.trtexec import compare_stages, read_profile, read_times
from cstl_edge.errors import DataError
from cstl_edge.measure.stats import percentile

RECORDED = Path(__file__).parent / "recorded"
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "trtexec.py"
FIGURES = {
    "h2d": (0.0123001, 0.0135509, 0.01260458, 0.01254365, 0.0128847, 0.0130372, 0.0135187),
    "compute": (0.4044, 0.628273, 0.414597525, 0.412038, 0.415884, 0.417182, 0.535398),
    "d2h": (0.00610039, 0.0066507, 0.006247881, 0.006224455, 0.00640076, 0.00645981, 0.006613),
    "latency": (0.423297, 0.646735, 0.433450025, 0.430962, 0.434874, 0.435898, 0.554002),
}
VARIATION = {"h2d": 1.869209, "compute": 4.788888, "d2h": 1.801258, "latency": 4.573775}
SHARED = {"startComputeMs": 10.2, "endComputeMs": 11.2, "computeMs": 1.0, "latencyMs": 1.3}
OLDER = SHARED | {
    "startInMs": 10.0, "endInMs": 10.1, "startOutMs": 11.2, "endOutMs": 11.4,
    "inMs": 0.1, "outMs": 0.2, "endToEndMs": 1.4,
}  # fmt: skip
NEWER = SHARED | {
    "startEnqMs": 10.0, "endEnqMs": 10.25, "startH2dMs": 10.0, "endH2dMs": 10.1,
    "startD2hMs": 11.2, "endD2hMs": 11.4, "h2dMs": 0.1, "d2hMs": 0.2,
}  # fmt: skip


def write(path, entries):
    text = entries if isinstance(entries, str) else json.dumps(entries)
    path.write_bytes(text.encode(errors="surrogateescape"))
    return path


def later(query, ms):
    return {k: v + ms if k.startswith(("start", "end")) else v for k, v in query.items()}


@pytest.fixture(scope="module")
def recorded():
    return read_times(RECORDED / "trtexec_times.json", run="r", case=Case(graph="full", batch=1))


@pytest.mark.parametrize("stage", FIGURES)
def test_figures_are_those_computed_elsewhere(recorded, stage):
    """Those of trtexec's summary: its percentiles are ours, its median the mean of the middle."""
    samples = recorded.samples[stage]
    marks = [percentile(samples, q) for q in (90, 95, 99)]
    actual = [min(samples), max(samples), fmean(samples), median(samples), *marks]
    assert actual == pytest.approx(FIGURES[stage], rel=1e-7)
    assert 100 * pstdev(samples) / fmean(samples) == pytest.approx(VARIATION[stage], rel=1e-5)


def test_queries_per_second_are_over_the_wall_time(recorded):
    assert recorded.values["queries_per_s"] == pytest.approx(
        200 / 0.289388 / (1 - 0.200304 / 0.289388)
    )


def test_every_query_is_a_sample_in_its_order(recorded):
    raw = json.loads((RECORDED / "trtexec_times.json").read_text())
    assert recorded.samples["compute"] == [x["computeMs"] for x in raw]
    assert recorded.samples["enqueue"] == [x["endEnqMs"] - x["startEnqMs"] for x in raw]


def test_unstable_times_are_warned_of_as_trtexec_does(recorded):
    assert any("unstable clocks: times vary by 4.8 %" in x for x in recorded.warnings)
    assert not any("bound" in x or "parallel" in x or "few" in x for x in recorded.warnings)


def test_a_row_survives_its_file(recorded, tmp_path):
    write_rows(tmp_path / "rows.jsonl", [recorded])
    assert list(read_rows(tmp_path / "rows.jsonl")) == [recorded]


def test_names_of_tensorrt_7_are_understood(tmp_path):
    old = read_times(write(tmp_path / "old.json", [OLDER, later(OLDER, 2.0)]), run="r")
    new = read_times(write(tmp_path / "new.json", [NEWER, later(NEWER, 2.0)]), run="r")
    assert "enqueue" not in old.samples
    assert new.samples["enqueue"] == [0.25, 0.25]
    for stage in ("h2d", "compute", "d2h", "latency"):
        assert old.samples[stage] == new.samples[stage]
    assert old.values == new.values == {"queries_per_s": pytest.approx(2 / 3.4e-3)}


def test_stamps_too_coarse_for_the_enqueue_are_warned_of(tmp_path):
    late = [later(NEWER, 2000.0 + 2 * i) | {"endEnqMs": 2010.01 + 2 * i} for i in range(3)]
    row = read_times(write(tmp_path / "t.json", late), run="r")
    assert any("known to 0.01 ms only" in x for x in row.warnings)


def test_several_streams_are_warned_of(tmp_path):
    row = read_times(write(tmp_path / "t.json", [later(NEWER, 0.5 * i) for i in range(4)]), run="r")
    assert any(x.startswith("parallel: 3 queries") for x in row.warnings)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("[", "expected a file of trtexec"),
        ("[" * 100_000, "expected a file of trtexec"),
        ("{}", "list of objects"),
        ("[]", "list of objects"),
        ("[1]", "list of objects"),
        ('[{"h2dMs": NaN}]', "NaN, which is no number"),
        ('[{"h2dMs": nan}]', "expected a file of trtexec"),
        ('[{"h2dMs": 1e999}]', "milliseconds for h2dMs"),
        ('[{"h2dMs": 1' + "0" * 400 + "}]", "milliseconds for h2dMs"),
        ('[{"h2dMs": -1}]', "milliseconds for h2dMs"),
        ('[{"h2dMs": true}]', "a number for h2dMs"),
        ('[{"h2dMs": "1"}]', "a number for h2dMs"),
        ([{"a\nb": 1}], "h2dMs or inMs; got an object with a\\nb"),
        ([{k: v for k, v in NEWER.items() if k != "computeMs"}], "expected computeMs"),
        ([NEWER | {"endEnqMs": 9.0}], "ends after it starts"),
        ([later(NEWER, 50.0), NEWER], "in the order of their time"),
        ("\udcff[", "expected a file of trtexec"),
    ],
)
def test_files_that_trtexec_does_not_write_are_refused(tmp_path, entries, message):
    with pytest.raises(DataError) as caught:
        read_times(write(tmp_path / "t.json", entries), run="r")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_huge_and_missing_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="expected a file of trtexec"):
        read_times(tmp_path / "none.json", run="r")
    monkeypatch.setattr("cstl_edge.bench.trtexec.LARGEST", 1 << 20)
    write(tmp_path / "t.json", "[" + " " * (1 << 20) + "]")
    with pytest.raises(DataError, match="of at most 1048576 bytes"):
        read_times(tmp_path / "t.json", run="r")


def test_layers_are_read(tmp_path):
    row = read_profile(RECORDED / "trtexec_profile.json", run="r")
    assert row.values == {"profiled_runs": 500, "layers_ms": pytest.approx(0.207)}
    names = [layer["name"] for layer in row.details["layers"]]
    assert names[2] == "CstlPartGather_0"
    assert row.details["layers"][3]["median_ms"] == 0.13824
    old = [{"count": 2}, {"name": "a", "timeMs": 4, "averageMs": 2, "percentage": 100}]
    older = read_profile(write(tmp_path / "p.json", old), run="r")
    assert older.details["layers"][0]["median_ms"] is None


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"count": 0}, {"name": "a"}], "at least one run"),
        ([{"count": 5}], "at least one run and one layer; got 5 and 0"),
        ([{"name": "a"}], "expected count"),
        ([{"count": 5}, {"timeMs": 1}], "a layer with a name"),
        ([{"count": 5}, {"name": "a", "timeMs": 1, "averageMs": 1}], "expected percentage"),
        ([NEWER], "expected count"),
    ],
)
def test_profiles_that_trtexec_does_not_write_are_refused(tmp_path, entries, message):
    with pytest.raises(DataError, match=message):
        read_profile(write(tmp_path / "p.json", entries), run="r")


def row(case=Case(), **samples):  # noqa: B008
    given = {"run": "r", "scenario": "graph", "contender": "tensorrt float16"}
    return Row(**given, case=case, samples=samples)


def test_stages_are_compared_with_trtexecs(recorded):
    ours = row(
        wall=[9.0, 9.0], h2d=[0.02, 0.03], compute=[0.4, 0.5], d2h=[0.01, 0.01], enqueue=[0.1, 0.1]
    )
    actual = {pair.stage: pair for pair in compare_stages(ours, recorded)}
    assert set(actual) == {"h2d", "compute", "d2h", "enqueue", "latency"}
    assert actual["compute"].ours_ms == pytest.approx(0.45)
    assert actual["compute"].theirs_ms == pytest.approx(0.412038)
    assert actual["compute"].ratio == pytest.approx(0.45 / 0.412038)
    assert actual["latency"].ours_p99_ms == pytest.approx(0.54)  # 0.03 + 0.5 + 0.01


def test_a_cuda_graph_is_compared_with_latency_and_no_copies_give_no_ratio(recorded):
    """Both copies are in the graph, so `compute` would flatter trtexec."""
    latency_ms = median(recorded.samples["latency"])
    (pair,) = compare_stages(row(wall=[1.0], device=[2 * latency_ms]), recorded)
    assert (pair.stage, pair.ratio) == ("latency", pytest.approx(2.0))
    (pair,) = compare_stages(row(h2d=[0.1]), row(h2d=[0.0]))
    assert pair.ratio is None


def test_rows_without_a_common_stage_are_refused(recorded):
    with pytest.raises(DataError, match="got wall in ours"):
        compare_stages(row(wall=[1.0]), recorded)


def script():
    spec = spec_from_file_location("trtexec_script", SCRIPT)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_the_script_writes_theirs_and_prints_both(tmp_path, capsys):
    case = Case(graph="full", batch=1, frames=30)
    ours = row(case, wall=[1.0], h2d=[0.02], compute=[0.824076], d2h=[0.01])
    paced = row(case.model_copy(update={"paced_hz": 25.0}), d2h=[7.0])
    write_rows(tmp_path / "ours.jsonl", [ours, paced])
    words = [str(RECORDED / "trtexec_times.json"), "--frames", "30"]
    words += ["--profile", str(RECORDED / "trtexec_profile.json")]
    words += ["--ours", str(tmp_path / "ours.jsonl"), "-o", str(tmp_path / "theirs.jsonl")]
    assert script()(words) == 0
    shown = capsys.readouterr()
    line = next(x for x in shown.out.splitlines() if x.startswith("compute"))
    assert line.split() == ["compute", "0.8241", "0.4120", "2.000", "0.8241", "0.5354"]
    assert "warning: unstable clocks" in shown.err
    kept = list(read_rows(tmp_path / "theirs.jsonl"))
    assert [x.details["kind"] for x in kept] == ["times", "profile"]
    assert kept[0].case == case


def test_the_script_names_what_is_missing_and_writes_nothing(tmp_path, capsys):
    write_rows(tmp_path / "ours.jsonl", [row(wall=[1.0])])
    words = [str(RECORDED / "trtexec_times.json"), "--ours", str(tmp_path / "ours.jsonl")]
    assert script()([*words, "-o", str(tmp_path / "out.jsonl")]) == DataError.exit_code
    assert "expected times of `tensorrt float16`" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
