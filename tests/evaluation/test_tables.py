"""Tables and notes as they are printed."""

import numpy as np

from cstl_edge.cli.console import table_text
from cstl_edge.evaluation.embed import EmbeddedSet
from cstl_edge.evaluation.embeddings import GALLERY
from cstl_edge.evaluation.evaluate import evaluate
from cstl_edge.evaluation.tables import format_tables, notes

from .conftest import made_walks
from .test_closed_set_matching import OU_VIEWS

NONE = np.zeros(0, np.int64)


def found(walks, protocol="auto", **more):
    return evaluate(EmbeddedSet(None, walks, NONE, NONE), protocol, draws=20, **more)


def test_casia_b_prints_as_table_1():
    walks = made_walks(people=3, views=(0, 18, 36), spread=0.0)
    shown = table_text(format_tables(found(walks))[0], markdown=False).splitlines()
    assert shown[0] == "Rank-1 (%) by probe view, identical views excluded"
    assert shown[1].split() == ["Probe", "0°", "18°", "36°", "Mean", "95", "%"]
    assert [line.split()[0] for line in shown[2:]] == ["NM", "BG", "CL", "Mean"]
    assert shown[2].split()[1:] == ["100.0"] * 5 + ["to", "100.0"]
    assert len({len(line) for line in shown[1:]}) == 1  # columns stand below each other


def test_ou_mvlp_prints_as_table_2():
    walks = made_walks(people=3, views=OU_VIEWS, names=("00", "01"), spread=0.0)
    shown = table_text(format_tables(found(walks))[0], markdown=False).splitlines()
    assert shown[1].split() == ["Probe", "Gallery", "all", "14", "views", "95", "%"]
    assert [line.split()[0] for line in shown[2:]] == [*(f"{v}°" for v in OU_VIEWS), "Mean"]


def test_every_metric_stands_in_one_table_with_intervals():
    result = found(made_walks(people=4, spread=1.0))
    table = format_tables(result)[1]
    assert table.columns == ("Probe", "rank-1", "rank-5", "rank-10", "mAP", "mINP")
    mean, (low, high) = result["mean"]["mAP"], result["mean"]["mAP_95"]
    assert table.rows[-1][0] == "Mean"
    assert table.rows[-1][4] == f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def test_markdown_has_a_cell_for_each_column():
    for table in format_tables(found(made_walks())):
        lines = table.markdown().splitlines()[2:]
        assert {line.count("|") for line in lines} == {len(table.columns) + 1}
        assert set(lines[1]) == set("|-:")


def test_a_single_gallery_has_no_views_to_print():
    walks = made_walks(people=3, views=(-1,), names=("a", "b"), spread=0.0)
    (table,) = format_tables(found(walks))
    assert table.rows[0][:2] == ("All", "100.0 (100.0 to 100.0)")


def test_open_set_says_what_it_cannot_prove():
    result = found(made_walks(people=8), "open-set", fpirs=(0.001, 0.1))
    (table,) = format_tables(result)
    assert [row[0] for row in table.rows] == ["0.10% *", "10.00%"]
    assert "not one alarm in 48" in notes(result)[-1]
    assert "at most 6.25%" in notes(result)[-1]


def test_notes_say_who_was_there_and_who_failed():
    walks = made_walks(people=4)
    short = np.flatnonzero((walks.people == 10) & (walks.sequences == "nm-05"))
    result = evaluate(EmbeddedSet(None, walks, short, NONE), draws=5)
    assert result["failed_to_enrol"] == {
        "gallery": 0, "probes": 2, "short": 2, "not_finite": 0, "rate": 0.025,
    }  # fmt: skip
    assert "failed to enrol 2.50% (2 too short, 0 not finite)" in notes(result)[0]
    assert any("4 of the 50 people" in line for line in notes({**result, "kind": "casia-b"}))
    assert not any("of the 50" in line for line in notes(result))
    lonely = walks[~((walks.people == 11) & np.isin(walks.sequences, GALLERY))]
    told = notes(found(lonely))
    assert any("not in the gallery: counted as missed" in line for line in told)
    dropped = notes(found(lonely, drop_unmated=True))
    assert any("not in the gallery: left out" in line for line in dropped)
