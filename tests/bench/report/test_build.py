"""Sections of the report by scenario, against figures counted by hand."""

from pathlib import Path

import pytest
from standin_results import SUBJECT, row, samples

from cstl_edge.bench.record import Case
from cstl_edge.bench.report.charts import plots
from cstl_edge.errors import DataError

RECORDED = Path(__file__).parents[1] / "recorded"
FULL = Case(graph="full", batch=1, frames=30)
STREAM = Case(graph="streaming", frames=30, hop=1, walkers=1)


def section(chapter, title):
    return next(one for one in chapter.sections if one.title == title)


def column(table, name):
    k = table.columns.index(name)
    return {str(line[0]): str(line[k]) for line in table.rows}


def test_one_walker_leads_with_the_best_ratio_and_what_float32_gives(chapter_of):
    rows = [
        row("single", name, case=case, samples={"wall": [1.0] * 50}, values=values)
        for name, case, values in (
            ("pytorch float32", FULL, {"times_as_fast_as_usual": 1.0}),
            ("onnxruntime float32", STREAM, {"times_as_fast_as_usual": 40.0}),
            ("onnxruntime int8", STREAM, {"times_as_fast_as_usual": 90.0}),
            ("onnxruntime int8", STREAM.model_copy(update={"hop": 5}),
             {"times_as_fast_as_usual": 99.0}),
        )
    ]  # fmt: skip
    chapter = chapter_of(rows)
    assert chapter.headlines[0].figure == "90.0×"
    assert (
        chapter.headlines[0].where
        == "onnxruntime int8, streaming, 30 frames, hop 1; float32: 40.0×"
    )
    table = section(chapter, "One walker").tables[0]
    assert column(table, "× usual way")["onnxruntime float32"] == "40.0×"


def test_paced_rows_have_a_table_of_their_own_with_how_late_they_began(chapter_of):
    paced = STREAM.model_copy(update={"paced_hz": 25.0})
    taken = {"wall": [2.0] * 200, "late": [0.25] * 200}
    rows = [row("single", case=STREAM, samples={"wall": [1.0] * 200}),
            row("single", case=paced, samples=taken)]  # fmt: skip
    first, second = section(chapter_of(rows), "One walker").tables
    assert column(first, "p50 ms") == {"onnxruntime float32": "1.00"}
    assert column(second, "late p99 ms") == {"onnxruntime float32": "0.25"}
    assert "paced at 25 Hz" in second.title


def test_many_walkers_show_the_number_held_and_every_trial(chapter_of):
    tried = [{"walkers": 8, "latency_ms": [10.0] * 9}, {"walkers": 30, "latency_ms": [50.0] * 9}]
    rows = [row("multi", case=Case(graph="streaming", hop=5, walkers=8), details={"tried": tried},
                samples={"latency": [10.0] * 9}, values={"walkers": 8.0})]  # fmt: skip
    chapter = chapter_of(rows)
    assert chapter.headlines[0].figure == "8"
    shown = section(chapter, "Many walkers")
    assert column(shown.tables[0], "walkers") == {"onnxruntime float32": "8"}
    assert "onnxruntime float32: 8: 10, 30: 50" in shown.pictures[0].alt


@pytest.mark.parametrize(
    "tried",
    [
        7,
        ["x"],
        [{"walkers": 1}],
        [{"walkers": 1, "latency_ms": []}],
        [{"walkers": 1, "latency_ms": [-1.0]}],
        [{"walkers": -1, "latency_ms": [1.0]}],
    ],
)
def test_damaged_trial_counts_are_refused(chapter_of, tried):
    with pytest.raises(DataError, match="tried"):
        chapter_of([row("multi", details={"tried": tried}, values={"walkers": 1.0})])


def test_stages_are_stacked_by_their_medians_with_the_p99_of_the_whole(chapter_of):
    taken = {"segment": [3.0] * 200, "embed": [4.0] * 200, "total": [7.5] * 198 + [30.0] * 2}
    shown = section(chapter_of([row("end_to_end", samples=taken)]), "From camera to event")
    assert "segment 3 ms, embed 4 ms" in shown.pictures[0].alt
    stages = shown.tables[-1]
    assert column(stages, "segment ms") == {"onnxruntime float32": "3.00 | 3.0"}
    assert column(stages, "total ms")["onnxruntime float32"].endswith("| 30")


def test_accuracy_stands_beside_the_time_of_the_same_contender_and_network(chapter_of):
    other = SUBJECT.model_copy(update={"weights_sha256": "b" * 64})
    rows = [
        row(case=FULL, samples={"wall": [20.0] * 100}),
        row(contender="onnxruntime int8", case=FULL, samples={"wall": [9.0] * 100}),
        row(contender="openvino int8", case=FULL, samples={"wall": [1.0] * 100}, subject=other),
        row("accuracy", values={"rank1": 0.8134, "people": 50.0},
            intervals={"rank1": (0.75, 0.87)}),
        row("accuracy", "onnxruntime int8", values={"rank1": 0.81, "rank1_difference": -0.004},
            intervals={"rank1_difference": (-0.01, 0.002)}),
        row("accuracy", "openvino int8", values={"rank1": 0.8}),
    ]  # fmt: skip
    shown = section(chapter_of(rows), "Accuracy beside speed")
    assert "50 synthetic people" in shown.lead[0]
    (table,) = shown.tables
    assert column(table, "whole window ms") == {
        "onnxruntime float32": "20.0", "onnxruntime int8": "9.00", "openvino int8": "–",
    }  # fmt: skip
    assert column(table, "rank-1")["onnxruntime float32"] == "81 % (75 to 87)"
    points = column(table, "rank-1 less float32's, points")
    assert points["onnxruntime int8"] == "-0.4 (-1.0 to +0.2)"
    assert shown.pictures[0].key == ("onnxruntime int8: 9.00 ms", "onnxruntime float32: 20.0 ms")


def test_the_pareto_front_has_the_points_that_none_dominates():
    points = [(4.0, 0.9), (1.0, 0.5), (2.0, 0.8), (3.0, 0.7), (2.0, 0.6), (5.0, 0.9)]
    front = {points[k] for k in plots.pareto(points)}
    beaten = {p for p in points for q in points
              if q != p and q[0] <= p[0] and q[1] >= p[1]}  # fmt: skip
    assert front == set(points) - beaten


def peak(precision, rate):
    details = {"kind": "arithmetic", "precision": precision, "device": "cpu", "kernel": "x"}
    return row("roofline", f"peak {precision}", details=details, values={"gmacs_per_s": rate})


def bandwidth(level, rate, capacity):
    details = {"kind": "bandwidth", "level": level, "device": "cpu", "capacity_bytes": capacity}
    return row("roofline", f"peak {level}", details=details, values={"gbytes_per_s": rate})


def cost(**values):
    return row("roofline", "cost float32", case=FULL,
               details={"kind": "cost", "precision": "float32"}, values=values)  # fmt: skip


LIMIT = [peak("float32", 100.0), bandwidth("memory", 20.0, None)]
NEEDS = cost(gmacs=2.0, gmacs_float32=2.0, gbytes=0.5)
TIMED = row(case=FULL, samples={"wall": [50.0]})


def test_the_share_of_the_limit_by_hand(chapter_of):
    rows = [*LIMIT, NEEDS, row(case=FULL, samples={"wall": [50.0] * 100})]
    table = section(chapter_of(rows), "Nearness to the limit").tables[0]
    assert column(table, "share") == {"onnxruntime float32": "50%"}  # 0.5 GB / 20 GB/s = 25 ms
    assert column(table, "reached 10⁹/s") == {"onnxruntime float32": "40.0"}
    assert column(table, "bound by") == {"onnxruntime float32": "memory bandwidth"}


@pytest.mark.parametrize(
    "bad",
    [
        cost(gmacs=1.0),
        row("roofline", details={"kind": "bandwidth", "device": [], "level": {}}),
        row("roofline", details={"kind": "arithmetic"}),
    ],
)
def test_a_roofline_that_cannot_be_read_is_refused(chapter_of, bad):
    with pytest.raises(DataError, match="roofline"):
        chapter_of([*LIMIT, bad, TIMED])


def test_a_share_above_100_percent_has_a_note(chapter_of):
    shown = section(chapter_of([*LIMIT, NEEDS, row(case=FULL, samples={"wall": [10.0]})]),
                   "Nearness to the limit")  # fmt: skip
    assert column(shown.tables[0], "share") == {"onnxruntime float32": "250%"}
    assert "quiet machine" in shown.tables[0].notes[0]


@pytest.mark.parametrize(
    "rows",
    [
        [peak("float32", 0.0), LIMIT[1], NEEDS],
        [*LIMIT, cost(gmacs=1.0, gmacs_float32=1.0, gbytes=0.0)],
        [LIMIT[0], NEEDS],
        LIMIT,
    ],
)
def test_without_a_limit_there_is_no_share(chapter_of, rows):
    shown = section(chapter_of([*rows, TIMED]), "Nearness to the limit")
    assert [table.title for table in shown.tables] == ["Peaks of this machine"]
    assert shown.pictures == ()


def test_peers_share_a_table_across_runs(chapter_of):
    def peer(name, contender, run, **more):
        about = SUBJECT.model_copy(update={"name": name, "trained": "rank1" in str(more)})
        return row("peers", contender, run=run, subject=about, **more)

    common = {"case": FULL, "details": {"widths": "common cost"}}
    rows = [
        peer("CSTL", "onnxruntime float32", "cost", samples={"wall": [8.0] * 99},
             values={"multiply_adds": 4e8, "parameters": 209704.0}, **common),
        peer("CSTL", "pytorch float32", "cost", samples={"wall": [15.0] * 99}, **common),
        peer("CSTL", "onnxruntime float32", "memory", values={"peak_memory_mb": 25.5}, **common),
        peer("CSTL", "pytorch float32", "short", values={"rank1": 0.3, "iterations": 300.0}),
        peer("CSTL", "pytorch float32", "long", values={"rank1": 0.6, "iterations": 600.0}),
        peer("GaitSet", "pytorch float32", "long", values={"rank1": 0.5, "iterations": 600.0}),
    ]  # fmt: skip
    (table,) = section(chapter_of(rows), "Against its neighbours").tables
    assert column(table, "mean") == {"CSTL": "60.0 %", "GaitSet": "50.0 %"}
    line = dict(zip(table.columns, map(str, table.rows[0]), strict=True))
    assert line["whole window ms"] == "8.00"
    assert line["eager PyTorch, whole ms"] == "15.0"
    assert line["peak memory MB"] == "25.5"
    assert line["parameters"] == "209,704"
    assert line["10⁶ multiply-adds"] == "400.0"


def test_power_has_a_column_of_the_measured_scope(chapter_of):
    values = {"joules_per_embedding_gross": 0.12, "joules_per_embedding_net": 0.08}
    chapter = chapter_of([row("power", case=FULL, values=values, details={"scope": "module"})])
    (table,) = section(chapter, "Power").tables
    assert column(table, "measured on") == {"onnxruntime float32": "module"}
    assert chapter.headlines[0].figure == "0.080"


def test_times_of_trtexec_stand_beside_ours(chapter_of):
    engine = row(contender="tensorrt float16", case=FULL,
                 samples={"wall": [1.0] * 50, "compute": samples(0.5, 50)})  # fmt: skip
    chapter = chapter_of(
        [engine], RECORDED / "trtexec_times.json", RECORDED / "trtexec_profile.json"
    )
    shown = section(chapter, "trtexec")
    titles = [table.title for table in shown.tables]
    assert titles[0].startswith("End to end")
    assert any(title.startswith("Ours beside it") for title in titles)
    assert any(title.startswith("Slowest layers") for title in titles)


def test_a_scenario_of_another_package_has_a_section_of_values_and_times(chapter_of):
    rows = [
        row("start_up", case=FULL, samples={"wall": [3.0] * 200}, values={"peak_mb": 25.5}),
        row("start_up", "pytorch float32", case=FULL, samples={"load": [8.0] * 200}),
        row("start_up", "openvino float32", skipped="not installed"),
    ]
    chapter = chapter_of([TIMED, *rows])
    (shown,) = (one for one in chapter.sections if one.id == "start_up-1")
    values, times, stages = shown.tables
    assert column(values, "peak MB") == {"onnxruntime float32": "25.5"}
    assert column(times, "p50 ms") == {"onnxruntime float32": "3.00"}
    assert column(stages, "load ms") == {"pytorch float32": "8.00 | 8.0"}


def test_a_scenario_of_another_package_without_figures_has_no_section(chapter_of):
    assert [one.title for one in chapter_of([row("start_up")]).sections] == ["Beside the figures"]


def test_the_warnings_table_has_its_example_column_without_examples(chapter_of):
    chapter = chapter_of([row(case=FULL, samples={"wall": [1.0]}, warnings=["busy"])])
    tables = section(chapter, "Beside the figures").tables
    (warned,) = (table for table in tables if table.title == "Warnings")
    assert warned.columns == ("", "rows", "for example")


def test_scenarios_without_figures_have_no_section(chapter_of):
    chapter = chapter_of([row(skipped="nothing is here")])
    assert [one.title for one in chapter.sections] == ["Beside the figures"]
    assert chapter.headlines == ()


def test_warnings_are_counted_by_kind(chapter_of):
    warned = {"warnings": ["unstable clocks: times vary by 9 %"], "samples": {"wall": [1.0]}}
    rows = [row(case=case, **warned) for case in (FULL, STREAM, Case(graph="frames", batch=1))]
    chapter = chapter_of(rows)
    tables = section(chapter, "Beside the figures").tables
    warned = next(table for table in tables if table.title == "Warnings")
    assert warned.rows == (("unstable clocks", "3", "times vary by 9 %"),)
    assert ("in doubt", "3 of 3 results: unstable clocks (3)") in chapter.facts


def test_the_state_of_the_machine_is_a_range_over_all_rows(chapter_of):
    def state(mhz, celsius):
        return {"before": {"cpu_mhz": {"median": mhz}}, "after": {"temperatures_c": {"x": celsius}},
                "settings": {"governor": "powersave"}, "seconds": 1.0}  # fmt: skip

    rows = [row(case=FULL, samples={"wall": [1.0]}, conditions=state(*x))
            for x in ((2600.0, 50.0), (1400.0, 71.5))]  # fmt: skip
    tables = section(chapter_of(rows), "Beside the figures").tables
    state_table = next(table for table in tables if table.title == "State of the machine")
    assert state_table.rows == (
        ("cpu mhz, median", "1,400", "2,600"),
        ("temperatures c, x", "50.00", "71.50"),
        ("governor", "powersave", ""),
    )


@pytest.mark.parametrize(
    "conditions", [{"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}, {"": [1, {}], "x": None}]
)
def test_any_state_makes_a_page(chapter_of, conditions):
    assert chapter_of([row(case=FULL, samples={"wall": [1.0]}, conditions=conditions)])
