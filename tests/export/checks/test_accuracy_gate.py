"""Accuracy gates: open for outputs near float32, closed for each kind of difference."""

from dataclasses import replace

import numpy as np
import pytest

from cstl_edge.errors import ExportError
from cstl_edge.evaluation.embeddings import LabelledEmbeddings
from cstl_edge.export.checks.accuracy_gate import (
    FP16,
    GateLimits,
    HeadOutputs,
    compare_with_torch_half,
    evaluate,
    paired_loss,
)
from cstl_edge.walkers.collection import WalkersSet

PEOPLE, VIEWS = 4, (18, 90)
RNG = np.random.default_rng(3)


@pytest.fixture
def walks():
    """Ten recordings of four people from two views; nobody looks at the silhouettes."""
    names = [f"nm-{i:02d}" for i in range(1, 7)] + ["bg-01", "bg-02", "cl-01", "cl-02"]
    rows = [(p, name, view) for p in range(PEOPLE) for name in names for view in VIEWS]
    people, sequences, views = (np.array(column) for column in zip(*rows, strict=True))
    return WalkersSet(np.zeros((len(rows), 1, 2, 2), np.uint8), people, sequences, sequences, views)


@pytest.fixture
def reference(walks):
    """Three parts of eight dimensions, each person near a place of their own; four frames."""
    m = len(walks.people)
    places = RNG.normal(size=(PEOPLE, 3, 8))
    embedding = places[walks.people] + 0.3 * RNG.normal(size=(m, 3, 8))
    scores = RNG.normal(size=(m, 3, 4)).astype(np.float32)
    return HeadOutputs(embedding.astype(np.float32), scores.argmax(2).astype(np.int32), scores)


def test_the_same_answers_pass(walks, reference):
    result = evaluate(reference, reference, walks, FP16)
    result.check("fp16")
    assert result.report["cosine"]["smallest"] == pytest.approx(1)
    assert result.report["salient_frames"] == {"compared": 240, "ties": 0, "wrong": 0}
    assert result.report["decisions"]["compared"] == 48
    assert result.report["decisions"]["changed"] == 0
    assert result.report["decisions"]["named"] > 0
    assert result.report["max_abs_error"] == result.rank1_change["points"] == 0


def test_rounding_to_half_passes(walks, reference):
    rounded = reference.embedding.astype(np.float16).astype(np.float32)
    evaluate(reference, replace(reference, embedding=rounded), walks, FP16).check("fp16")


def test_one_turned_part_closes_the_gate(walks, reference):
    embedding = reference.embedding.copy()
    embedding[7, 1] *= -1
    result = evaluate(reference, replace(reference, embedding=embedding), walks, FP16)
    by_part = result.report["cosine"]["smallest_by_part"]
    assert by_part[1] == pytest.approx(-1)
    assert by_part[0] == by_part[2] == pytest.approx(1)
    with pytest.raises(ExportError, match=r"fp16: the smallest cosine of a part is -1\.0+, exp"):
        result.check("fp16")


def test_a_part_that_is_zero_in_both_is_the_same(walks, reference):
    embedding = reference.embedding.copy()
    embedding[3, 2] = 0
    blank = replace(reference, embedding=embedding)
    assert evaluate(blank, blank, walks, FP16).report["cosine"]["smallest"] == pytest.approx(1)
    result = evaluate(reference, blank, walks, FP16)
    assert result.report["cosine"]["smallest"] == 0
    assert result.problems


def test_nan_closes_the_gate(walks, reference):
    embedding = reference.embedding.copy()
    embedding[0, 0, 0] = np.nan
    result = evaluate(reference, replace(reference, embedding=embedding), walks, FP16)
    assert any("cosine of a part is nan" in problem for problem in result.problems)


def test_ties_are_counted_apart_from_wrong_choices(walks, reference):
    scores = reference.scores.copy()
    scores[0, 0] = [1.0, 0.9995, 0.0, -1.0]
    scores[1, 1] = [1.0, 0.5, 0.0, -1.0]
    salient = reference.salient.copy()
    salient[0, 0] = salient[1, 1] = 0
    before = replace(reference, scores=scores, salient=salient)
    after = salient.copy()
    after[0, 0] = after[1, 1] = 1  # once by a hair, once by a half
    result = evaluate(before, replace(before, salient=after), walks, FP16)
    assert result.report["salient_frames"] == {"compared": 240, "ties": 1, "wrong": 1}
    assert not result.problems
    strict = evaluate(before, replace(before, salient=after), walks, replace(FP16, wrong=0.001))
    assert strict.problems == [
        "1 of 240 salient frames differ without a tie, expected at most 0.1%"
    ]


def test_a_part_of_another_frame_is_not_compared(walks, reference):
    salient, embedding = reference.salient.copy(), reference.embedding.copy()
    salient[0, 0] = (salient[0, 0] + 1) % 4
    embedding[0, 0] += 5
    result = evaluate(
        reference, replace(reference, salient=salient, embedding=embedding), walks, FP16
    )
    assert result.report["max_abs_error"] == 0
    assert result.report["cosine"]["smallest"] == pytest.approx(1)
    assert result.report["cosine"]["mean"] < 1


def test_without_ssfl_there_are_no_choices(walks, reference):
    bare = HeadOutputs(reference.embedding, None)
    result = evaluate(bare, bare, walks, FP16)
    assert "salient_frames" not in result.report
    result.check("fp16")


def test_people_taken_for_each_other_cost_rank_1_and_decisions(walks, reference):
    open_for_all = GateLimits(cosine=-1, tie=1, wrong=1, rank1_points=0.5, decisions=0.01)
    embedding = reference.embedding.copy()
    a, b = (np.flatnonzero((walks.people == p) & (walks.sequences == "nm-05")) for p in (0, 1))
    embedding[a], embedding[b] = reference.embedding[b], reference.embedding[a]
    result = evaluate(reference, replace(reference, embedding=embedding), walks, open_for_all)
    assert result.report["rank1"]["float32"]["cross_view"] > 0.9
    assert result.rank1_change["points"] > 5
    assert result.report["decisions"]["changed"] >= 3
    problems = " ".join(result.problems)
    assert "rank-1 falls by" in problems
    assert "of 48 searches end otherwise" in problems


def test_losses_are_counted_search_by_search(walks, reference):
    """Who is lost here and won there costs nothing on average, and the error says how sure."""
    before = LabelledEmbeddings(reference.embedding, walks.people, walks.sequences, walks.views_deg)
    embedding = reference.embedding.copy()
    places = np.array([reference.embedding[walks.people == p].mean(0) for p in range(PEOPLE)])
    (lost,) = np.flatnonzero(
        (walks.people == 0) & (walks.sequences == "nm-05") & (walks.views_deg == 18)
    )
    embedding[lost] = places[1]
    result = paired_loss(before, replace(before, embeddings=embedding))
    assert result["compared"] == PEOPLE * 6 * 2  # each probe in the one other view
    assert (result["only_float32"], result["only_found"]) == (1, 0)
    assert result["points"] == pytest.approx(100 / 48, abs=1e-3)
    by_person = np.array([100 / 12, 0, 0, 0])
    error = by_person.std(ddof=1) / 2
    assert result["standard_error_points"] == pytest.approx(error, abs=1e-3)
    assert result["at_most_points"] == pytest.approx(100 / 48 + 1.645 * error, abs=1e-2)
    back = paired_loss(replace(before, embeddings=embedding), before)
    assert (back["only_float32"], back["only_found"], back["points"]) == (0, 1, -result["points"])
    same = paired_loss(before, before)
    assert (same["points"], same["at_most_points"]) == (0, 0)


def test_the_rule_allows_twice_what_pytorch_loses(network):
    network = network().fused()
    silhouettes = RNG.integers(0, 2, (3, 9, 16, 12), np.uint8) * np.uint8(255)

    def exact(given, lengths):
        import torch

        with torch.no_grad():
            embedding, frames = network(torch.tensor(given), torch.tensor(lengths))
        return embedding.numpy(), frames.numpy()

    report = compare_with_torch_half(network, silhouettes, exact)
    assert report["max_abs_error"] == 0
    assert 1e-5 < report["torch_fp16_max_abs_error"] < 0.05
    assert report["allowed"] == pytest.approx(2 * report["torch_fp16_max_abs_error"] + 1e-4)
    assert report["parts_compared"] + report["parts_with_other_frames"] == 12

    def off(given, lengths):
        embedding, frames = exact(given, lengths)
        return embedding + 0.5, frames

    assert compare_with_torch_half(network, silhouettes, off)["max_abs_error"] == pytest.approx(
        0.5, rel=1e-3
    )
