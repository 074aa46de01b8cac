"""Rows of the paper's tables: training, resuming, sharing, evaluation on held-out people."""

import numpy as np
import pytest

from cstl_edge.errors import ConfigError, DataError
from cstl_edge.evaluation.closed_set import rank1_table
from cstl_edge.evaluation.embeddings import LabelledEmbeddings
from cstl_edge.reproduce import rows
from cstl_edge.reproduce.rows import hits_by_person, plan_row, run_row
from cstl_edge.training.presets import find_preset, load_table


def planned(name, row, data, root, budget, **more):
    plan = load_table(name)
    return plan_row(plan, plan.row(row), [data], root, budget=budget, **more)


@pytest.fixture(scope="module")
def trained(data, budget, tmp_path_factory):
    """A finished row."""
    row = planned("table3", "baseline", data, tmp_path_factory.mktemp("rows"), budget)
    assert row.record() is None
    assert run_row(row, command="reproduce")
    return row


def test_a_row_is_trained_and_evaluated_once(trained, monkeypatch):
    record = trained.record()
    assert record["iterations"] == 3
    assert record["configuration"]["model"]["aggregation"] == "max"
    assert set(record["result"]["conditions"]) == {"nm", "bg", "cl"}
    assert record["hits"]["people"] == [101, 102, 103, 104]
    monkeypatch.setattr(rows, "run_training", None)  # a second training fails
    assert run_row(trained)


def test_figures_follow_from_the_hits(trained):
    record = trained.record()
    for name, metrics in record["result"]["conditions"].items():
        assert np.mean(record["hits"][name]) == pytest.approx(metrics["rank-1"], abs=1e-4)


def test_a_stopped_row_goes_on(data, budget, tmp_path, monkeypatch):
    row = planned("table5", "max pooling", data, tmp_path, budget)
    train = rows.run_training
    resumed = []

    def stopped(preset, changes, **more):
        resumed.append(more["resume"])
        if len(resumed) == 1:
            changes = (*changes, "run.iterations=1")
        finished = train(preset, changes, **more)
        return finished._replace(stopped=len(resumed) == 1)

    monkeypatch.setattr(rows, "run_training", stopped)
    assert not run_row(row)
    assert row.record() is None
    assert run_row(row)
    assert resumed == [False, True]
    assert row.record()["iterations"] == 3


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("table1", "GaitSet 64x44"),
        ("table3", "GaitPart"),
        ("table2", "GLN"),
        ("table1", "MT3D-style reconstruction 64x44"),
    ],
)
def test_peers_are_trained_evaluated_and_recorded_as_cstl_is(table, name, data, budget, tmp_path):
    plan = load_table(table)
    narrow = {"widths": [2, 3, 4], "embedding": 3}
    peer = plan.row(name).model_copy(update={"peer": narrow})
    row = plan_row(plan, peer, [data], tmp_path, budget=budget)
    assert row.folder.name.startswith(f"{peer.network}-")
    assert run_row(row)
    record = row.record()
    assert (record["iterations"], len(record["weights_sha256"])) == (3, 64)
    assert record["result"]["people"] == 4
    assert record["hits"]["people"] == [101, 102, 103, 104]
    assert not (row.folder / "resume.safetensors").exists()


def test_a_stopped_peer_goes_on(data, budget, tmp_path, monkeypatch):
    plan = load_table("table3")
    narrow = plan.row("GaitSet").model_copy(update={"peer": {"widths": [2, 3, 4], "embedding": 3}})
    row = plan_row(plan, narrow, [data], tmp_path, budget=budget)
    stops = iter([False, True, False, False, False])
    monkeypatch.setattr(rows.StopSignals, "__call__", lambda self: next(stops))
    assert not run_row(row)
    assert row.record() is None
    assert (row.folder / "resume.safetensors").exists()
    assert run_row(row)
    assert row.record()["iterations"] == 3


def test_unknown_arguments_of_a_peer_are_refused(data, budget, tmp_path):
    plan = load_table("table3")
    wrong = plan.row("GaitSet").model_copy(update={"peer": {"width": 3}})
    with pytest.raises(ConfigError, match=r"network gaitset: .*'width'"):
        run_row(plan_row(plan, wrong, [data], tmp_path, budget=budget))


def test_tables_share_a_network_and_no_budget(data, budget, tmp_path):
    def folder(name, row, **more):
        return planned(name, row, data, tmp_path, budget, **more).folder

    whole = folder("table3", "CSTL")
    assert whole == folder("table4", "frame + short + long") == folder("table5", "ATA")
    assert folder("table3", "baseline + MSTE + SSFL") == folder("table5", "max pooling") != whole
    assert folder("table3", "CSTL", overrides=["run.seed=1"]) != whole
    assert folder("table1", "GaitSet 64x44") == folder("table3", "GaitSet") != whole
    assert folder("table3", "CSTL", overrides=["run.iterations=4"]) != whole
    assert folder("table3", "CSTL", overrides=["run.threads=2"]) == whole  # not of the weights


def test_rows_of_the_paper_take_the_papers_presets(data, tmp_path):
    row = planned("table3", "CSTL", data, tmp_path, "paper")
    assert row.preset == find_preset("cstl-casia-b")
    assert row.config.run.iterations == 100_000
    assert row.config.walkers is None


def test_walkers_have_the_size_of_the_row(tmp_path):
    row = planned("table1", "CSTL 128x88", "walkers", tmp_path, "small")
    assert row.kind == "walkers"
    assert row.config.walkers.size == (128, 88)
    assert row.config.walkers.people == 420
    assert row.config.model["widths"] == [8, 16, 32, 32]


def test_data_of_another_size_are_refused(data, budget, tmp_path):
    with pytest.raises(ConfigError, match=r"takes silhouettes of 128x88; --data has 64x44.*--size"):
        planned("table1", "CSTL 128x88", data, tmp_path, budget)


def test_walkers_that_are_trained_on_are_not_tested(budget, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = ["walkers.people=2", "walkers.first=30"]
    row = planned("table3", "CSTL", "walkers:31-32", tmp_path, budget, overrides=more)
    monkeypatch.setattr(
        rows, "held_out", lambda *_: rows.HeldOut(_People([31, 32]), [], "walkers", "", "")
    )
    with pytest.raises(ConfigError, match=r"whom no row is trained on \(30 to 31\).*has 31"):
        run_row(row)


class _People:
    def __init__(self, people):
        self.people = np.array(people)


def test_a_damaged_record_is_refused(data, budget, tmp_path):
    row = planned("table3", "CSTL", data, tmp_path, budget)
    row.folder.mkdir(parents=True)
    (row.folder / "row.json").write_text('{"iterations": 1')
    with pytest.raises(DataError, match=r"row\.json.*delete it"):
        row.record()


def test_hits_by_person_are_those_of_the_closed_set():
    rng = np.random.default_rng(1)
    names = ["nm-01", "nm-05", "bg-01", "cl-02"]
    labels = [(p, n, v) for p in range(6) for n in names for v in (0, 18, 90)]
    people, sequences, views = (np.array(column) for column in zip(*labels, strict=True))
    base = rng.normal(size=(6, 2, 3))[people]
    walks = LabelledEmbeddings(
        (base + rng.normal(size=base.shape)).astype(np.float32), people, sequences, views
    )
    hits, known = hits_by_person(walks, "casia-b"), rank1_table(walks)
    for name in ("nm", "bg", "cl"):
        assert np.mean(hits[name]) == pytest.approx(known[name]["cross_view"], abs=1e-4)


def test_a_person_without_probes_has_no_share_of_hits():
    people = np.array([1, 1, 1, 2, 2, 2])
    sequences = np.array(["nm-01", "nm-05", "bg-01", "nm-01", "nm-05", "nm-06"])
    views = np.array([0, 90, 90, 0, 90, 90])
    walks = LabelledEmbeddings(np.eye(6, dtype=np.float32)[:, None], people, sequences, views)
    assert hits_by_person(walks, "casia-b")["bg"][1] is None
