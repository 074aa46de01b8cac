"""Printed tables and notes of an evaluation."""

import numpy as np

from cstl_edge.cli.console import table_text
from cstl_edge.evaluation.embed import EmbeddedSet
from cstl_edge.evaluation.embeddings import GALLERY
from cstl_edge.evaluation.evaluate import evaluate
from cstl_edge.evaluation.tables import format_tables, notes

from .conftest import draw_labelled
from .test_closed_set_matching import OU_VIEWS

NONE = np.zeros(0, np.int64)


def evaluation_record(labelled, protocol="auto", **more):
    return evaluate(EmbeddedSet(None, labelled, NONE, NONE), protocol, draws=20, **more)


def test_casia_b_is_formatted_as_table_1():
    labelled = draw_labelled(people=3, views=(0, 18, 36), spread=0.0)
    shown = table_text(format_tables(evaluation_record(labelled))[0], markdown=False).splitlines()
    assert shown[0] == "Rank-1 (%) by probe view, identical views excluded"
    assert shown[1].split() == ["Probe", "0°", "18°", "36°", "Mean", "95", "%"]
    assert [line.split()[0] for line in shown[2:]] == ["NM", "BG", "CL", "Mean"]
    assert shown[2].split()[1:] == ["100.0"] * 5 + ["to", "100.0"]
    assert len({len(line) for line in shown[1:]}) == 1  # columns stand below each other


def test_ou_mvlp_is_formatted_as_table_2():
    labelled = draw_labelled(people=3, views=OU_VIEWS, names=("00", "01"), spread=0.0)
    shown = table_text(format_tables(evaluation_record(labelled))[0], markdown=False).splitlines()
    assert shown[1].split() == ["Probe", "Gallery", "all", "14", "views", "95", "%"]
    assert [line.split()[0] for line in shown[2:]] == [*(f"{v}°" for v in OU_VIEWS), "Mean"]


def test_metrics_table_holds_every_metric_with_its_interval():
    result = evaluation_record(draw_labelled(people=4, spread=1.0))
    table = format_tables(result)[1]
    assert table.columns == ("Probe", "rank-1", "rank-5", "rank-10", "mAP", "mINP")
    mean, (low, high) = result["mean"]["mAP"], result["mean"]["mAP_95"]
    assert table.rows[-1][0] == "Mean"
    assert table.rows[-1][4] == f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def test_markdown_has_a_cell_for_each_column():
    for table in format_tables(evaluation_record(draw_labelled())):
        lines = table.markdown().splitlines()[2:]
        assert {line.count("|") for line in lines} == {len(table.columns) + 1}
        assert set(lines[1]) == set("|-:")


def test_single_gallery_has_no_table_by_view():
    labelled = draw_labelled(people=3, views=(-1,), names=("a", "b"), spread=0.0)
    (table,) = format_tables(evaluation_record(labelled))
    assert table.rows[0][:2] == ("All", "100.0 (100.0 to 100.0)")


def test_open_set_marks_rates_that_cannot_be_proved():
    result = evaluation_record(draw_labelled(people=8), "open-set", fpirs=(0.001, 0.1))
    (table,) = format_tables(result)
    assert [row[0] for row in table.rows] == ["0.10% *", "10.00%"]
    assert "not one alarm in 48" in notes(result)[-1]
    assert "at most 6.25%" in notes(result)[-1]


def test_notes_count_people_failures_and_unmated_searches():
    labelled = draw_labelled(people=4)
    short = np.flatnonzero((labelled.people == 10) & (labelled.sequences == "nm-05"))
    result = evaluate(EmbeddedSet(None, labelled, short, NONE), draws=5)
    assert result["failed_to_enrol"] == {
        "gallery": 0, "probes": 2, "short": 2, "not_finite": 0, "rate": 0.025,
    }  # fmt: skip
    assert "failed to enroll 2.50% (2 too short, 0 not finite)" in notes(result)[0]
    assert any("4 of the 50 people" in line for line in notes({**result, "kind": "casia-b"}))
    assert not any("of the 50" in line for line in notes(result))
    lonely = labelled[~((labelled.people == 11) & np.isin(labelled.sequences, GALLERY))]
    counted = notes(evaluation_record(lonely))
    assert any("not in the gallery: counted as missed" in line for line in counted)
    dropped = notes(evaluation_record(lonely, drop_unmated=True))
    assert any("not in the gallery: left out" in line for line in dropped)
