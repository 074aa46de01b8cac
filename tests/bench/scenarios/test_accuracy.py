"""Scenario `accuracy`: rank-1 and FNIR as evaluation has them, differences paired by person."""

from types import SimpleNamespace

import numpy as np
import pytest
from standin_bench import raising, ran

from cstl_edge.bench.backends.base import Unavailable
from cstl_edge.bench.backends.embedders import Embedder
from cstl_edge.bench.scenarios import accuracy
from cstl_edge.bench.scenarios.accuracy import (
    accuracy_warnings,
    rank1_per_person,
    recognition_figures,
)
from cstl_edge.errors import ConfigError, ModelError
from cstl_edge.evaluation.closed_set import rank1_table
from cstl_edge.evaluation.embeddings import PROBES, LabelledEmbeddings
from cstl_edge.evaluation.open_set import evaluate_open_set
from cstl_edge.evaluation.protocols import select_trials
from cstl_edge.runtime.base import Embedded

VIEWS = (18, 90)
NAMES = [f"nm-0{k}" for k in range(1, 7)] + ["bg-01", "bg-02", "cl-01", "cl-02"]


def people(count, frames=3):
    """Return sequences of so many people: the silhouette's pixels tell who, when and from where."""
    rows = [(p, n, v) for p in range(count) for n in NAMES for v in VIEWS]
    people, sequences, views_deg = map(np.array, zip(*rows, strict=True))
    return SimpleNamespace(
        people=people,
        sequences=sequences,
        views_deg=views_deg,
        read=lambda row: np.full((frames, 2, 2), row, np.uint8),
    )


def embeddings(data, noise, seed=0):
    """Return embeddings [m, p, d] of people who are `noise` apart from themselves."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(data.people.max() + 1, 2, 6))
    drawn = centres[data.people] + noise * rng.normal(size=(len(data.people), 2, 6))
    return drawn.astype(np.float32)


def walks(count=6, noise=0.8, seed=0):
    data = people(count)
    vectors = embeddings(data, noise, seed)
    return LabelledEmbeddings(vectors, data.people, data.sequences, data.views_deg)


def rank1_counted(one):
    """Rank-1 across views by plain loops, the mean over pairs of views and conditions."""
    gallery = [i for i, s in enumerate(one.sequences) if s in NAMES[:4]]
    rates = []
    for names in PROBES.values():
        for probe_view in VIEWS:
            for view in set(VIEWS) - {probe_view}:
                entries = [i for i in gallery if one.views_deg[i] == view]
                hits = []
                for i in range(len(one.people)):
                    if one.sequences[i] not in names or one.views_deg[i] != probe_view:
                        continue
                    apart = [
                        np.linalg.norm(one.embeddings[i] - one.embeddings[j], axis=1).mean()
                        for j in entries
                    ]
                    hits.append(one.people[entries[int(np.argmin(apart))]] == one.people[i])
                rates.append(np.mean(hits))
    return float(np.mean(rates))


def test_rank1_is_that_of_plain_loops():
    one = walks()
    figures = recognition_figures(one, draws=50)
    assert 0.3 < figures.values["rank1"] < 0.99
    assert figures.values["rank1"] == pytest.approx(rank1_counted(one), abs=1e-4)
    assert rank1_per_person(one).mean() == pytest.approx(rank1_counted(one), abs=1e-4)
    low, high = figures.intervals["rank1"]
    assert low < figures.values["rank1"] < high
    assert figures.values["people"] == 6
    assert figures.values["sequences"] == 6 * 20


def test_figures_are_those_of_the_evaluation():
    one = walks()
    figures = recognition_figures(one, draws=50)
    assert figures.values["rank1_same_view"] == rank1_table(one)["mean"]["same_view"]
    at = evaluate_open_set(one, select_trials(one, "open-set"), [0.01], draws=50)["errors"][0]
    assert (figures.values["fnir"], figures.values["fpir"]) == (at["fnir"], at["fpir"])
    assert figures.intervals["fnir"] == tuple(at["fnir_95"])


def test_few_people_prove_little():
    few, none = (recognition_figures(walks(count), draws=20) for count in (6, 3))
    (warning,) = accuracy_warnings(few)
    searched = few.open_set["non_mated_searches"]
    assert f"{searched} non-mated searches prove {3 / searched:.1%} at best" in warning
    assert "fnir" not in none.values
    assert "no FNIR with 3 people" in accuracy_warnings(none)[0]
    assert accuracy_warnings(recognition_figures(walks(60), draws=2)) == []


@pytest.fixture
def field(monkeypatch):
    """Let made-up embedders of the same people run; returns a function that takes them by name."""

    def take(data, *figures):
        monkeypatch.setattr(accuracy, "walkers_set", lambda context: data)
        monkeypatch.setattr(accuracy, "embedders", lambda context: iter(figures))

    return take


def embedder(name, vectors, how):
    """Return an embedder that knows a sequence by the number in its pixels."""
    known = SimpleNamespace(encode=lambda walks: Embedded(vectors[walks[:, 0, 0, 0]], None))
    return Embedder(name, known, lambda: how)


def test_differences_are_from_the_first_float32(plain, field):
    data = people(6)
    plainly, worse = embeddings(data, 0.5), embeddings(data, 1.4, seed=2)
    field(
        data,
        embedder("onnxruntime float16", plainly, ran("float16", "float32")),
        embedder("onnxruntime float32", plainly, ran()),
        embedder("onnxruntime int8", worse, ran("int8")),
        embedder("pytorch float32", plainly, ran()),
        Unavailable("openvino int8", "not here"),
    )
    rows = {row.contender: row for row in accuracy.rows(plain)}
    half, full, int8, torch, absent = rows.values()
    for row in (half, full):  # before the reference, and itself
        assert "rank1_difference" not in row.values
    assert torch.values["rank1_difference"] == torch.values["fnir_difference"] == 0
    assert torch.intervals["rank1_difference"] == (0, 0)
    lost = int8.values["rank1"] - full.values["rank1"]
    assert lost < -0.1
    assert int8.values["rank1_difference"] == pytest.approx(lost, abs=2e-4)
    low, high = int8.intervals["rank1_difference"]
    assert low < int8.values["rank1_difference"] < high < 0
    missed = int8.values["fnir"] - full.values["fnir"]
    assert int8.values["fnir_difference"] == pytest.approx(missed, abs=2e-4)
    assert int8.details["difference_from"] == "onnxruntime float32"
    assert int8.details["views_deg"] == [18, 90]
    assert "det" not in int8.details["open_set"]
    assert absent.skipped == "not here"


def test_a_failing_embedder_has_a_row_with_the_reason(plain, field):
    broken = SimpleNamespace(encode=raising(ModelError("the device is gone")))
    field(people(4), Embedder("x float32", broken, ran))
    (row,) = accuracy.rows(plain)
    assert row.skipped == "the device is gone"
    assert not row.values


def test_a_size_that_walkers_are_not_made_in_is_refused(plain):
    with pytest.raises(ConfigError, match=r"this network takes \(16, 12\)"):
        accuracy.walkers_set(plain)
