"""Report of a table of the paper: intervals, paired differences, published figures."""

from dataclasses import dataclass

import pytest

from cstl_edge.cli.console import table_text
from cstl_edge.reproduce.report import difference, notes, summary, tables_to_print
from cstl_edge.training.presets import RowPlan, load_table


@dataclass
class Stub:
    """The part of a row that the report reads."""

    plan: RowPlan
    kind: str
    stored: dict | None = None
    folder: str = "runs/row"

    def record(self):
        return self.stored


def record(shares, conditions=("nm", "bg", "cl"), widths=(32, 64, 128, 128)):
    """Return a record in which each person has the same share of hits in every condition."""
    mean = sum(shares) / len(shares)
    figures = {"rank-1": mean, "rank-1_95": [mean - 0.1, mean + 0.1]}
    result = {
        "people": len(shares),
        "conditions": {c: {**figures, "per_view": {"0": mean, "90": mean}} for c in conditions},
        "mean": figures,
    }
    hits = {"people": list(range(len(shares))), **{c: list(shares) for c in conditions}}
    configuration = {"model": {"widths": list(widths)}}
    return {
        "iterations": 5, "data": "somebody", "result": result, "hits": hits,
        "configuration": configuration,
    }  # fmt: skip


def reported(name, kind="walkers", **records):
    """Return the tables to print of a report, and its notes."""
    plan = load_table(name)
    report = summary(plan, [Stub(row, kind, records.get(row.name)) for row in plan.rows])
    return tables_to_print(plan, report), notes(plan, report)


def test_a_difference_is_paired_by_person():
    better = difference(record([0.5, 0.7, 0.9]), record([0.4, 0.6, 0.8]))
    assert better["difference"] == pytest.approx(0.1)
    assert better["verdict"] == "better"  # though the shares overlap: every person gained
    none = difference(record([0.5, 0.7, 0.1]), record([0.4, 0.6, 0.4]))
    assert none["verdict"] == "none"


def test_neighbours_of_full_width_beside_a_narrow_cstl_are_no_comparison():
    shares, narrow = [0.5, 0.6], (8, 16, 32, 32)
    rows = {"GaitSet": record(shares, widths=narrow), "CSTL": record(shares, widths=narrow)}
    told = [note for note in reported("table3", **rows)[1] if "equal cost" in note]
    assert len(told) == 1
    assert told[0].startswith("GaitSet: ")
    full = {"GaitSet": record(shares), "CSTL": record(shares)}
    assert not any("equal cost" in note for note in reported("table3", **full)[1])
    assert not any("equal cost" in note for note in reported("table3", CSTL=rows["CSTL"])[1])


def test_only_people_of_both_rows_are_compared():
    a, b = record([0.5, 0.5, 0.5]), record([0.5, 0.5, 0.1])
    b["hits"]["nm"][2] = None
    assert difference(a, b)["difference"] == 0
    b["hits"]["nm"][1] = None
    assert difference(a, b) is None


def test_a_table_prints_intervals_and_verdicts():
    records = {"ATA": record([0.9, 0.8, 0.7]), "max pooling": record([0.6, 0.5, 0.4])}
    tables, lines = reported("table5", **records)
    shown = table_text(tables[0], markdown=False)
    assert "80.0 (70.0 to 90.0)" in shown
    assert "-30.0 (-30.0 to -30.0): worse" in shown
    assert shown.splitlines()[3].split() == ["average", "pooling", "-", "-", "-", "-", "-"]
    assert "not trained to the end yet: average pooling" in lines


def test_the_paper_stands_beside_its_own_dataset_alone():
    for kind, shown_too in (("casia-b", True), ("walkers", False), ("ou-mvlp", False)):
        tables, lines = reported("table5", kind, ATA=record([0.9, 0.8]))
        assert ("paper 97.8" in table_text(tables[0], markdown=False)) is shown_too
        assert any("stand beside no other data's" in line for line in lines) is not shown_too


def test_an_interval_around_zero_is_printed_as_no_difference():
    records = {"ATA": record([0.5, 0.7, 0.1]), "max pooling": record([0.4, 0.6, 0.4])}
    tables, _ = reported("table5", **records)
    assert ": no difference" in table_text(tables[0], markdown=False)


def test_table_1_goes_by_view_with_the_papers_line_below():
    records = {"CSTL 64x44": record([0.9, 0.8])}
    tables, _ = reported("table1", "casia-b", **records)
    by_view = {row[0]: row[1:] for row in tables[1].rows}
    assert by_view["NM CSTL 64x44"][0] == "85.0"
    assert by_view["NM CSTL 64x44, paper"][0] == "97.2"
    assert by_view["CL CSTL 128x88, paper"][-1] == "79.9"


def test_table_2_has_one_condition_and_no_mean_of_several():
    (means, *_), _ = reported("table2", "ou-mvlp", CSTL=record([0.9, 0.7], ["all"]))
    assert means.columns == ("", "All")
    cells = dict(means.rows)
    assert cells["CSTL"] == "80.0 (70.0 to 90.0), paper 90.2"
    assert cells["GLN"] == "-, paper 89.2"


def test_nothing_trained_yet_still_prints():
    assert len(reported("table1")[0]) == 1
