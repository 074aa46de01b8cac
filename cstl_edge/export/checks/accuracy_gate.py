"""The gates of a reduced precision: how far its answers are from float32, and what that changes.

Letters: m sequences, s frames, p parts, c channels, d embedding dimensions.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cstl_edge.arrays import Floats, Ints
from cstl_edge.errors import ExportError
from cstl_edge.evaluation.closed_set import rank1_hits, rank1_table
from cstl_edge.evaluation.embeddings import GALLERY, PROBES, Walks, part_mean_distance
from cstl_edge.export.checks.parity import SALIENT
from cstl_edge.model import Cstl

DECISION_FPIR = 0.01
SURE = 1.645  # standard errors: 95 of 100 losses like it lie below


def rank1(before: Walks, after: Walks) -> dict[str, Any]:
    """Return rank-1 of float32 and of another precision, and what was lost between them."""
    tables = [rank1_table(one)["mean"] for one in (before, after)]
    means = [{view: table[view] for view in ("same_view", "cross_view")} for table in tables]
    return {"float32": means[0], "found": means[1], "lost": lost_matches(before, after)}


def lost_matches(before: Walks, after: Walks) -> dict[str, Any]:
    """Compare rank-1 across views search by search, on the same walks in two precisions.

    Searches that end alike say nothing of the difference, so its standard error is that of the
    others: far smaller than that of either rank-1. People are what was sampled, hence it is taken
    over their means. `at_most_points` is what the loss on more people is below, 95 % certain.
    """
    differences, people = [], []
    for condition in PROBES:
        (hits, views, probes), (others, _, _) = (
            rank1_hits(one, condition) for one in (before, after)
        )
        across = probes.views_deg[:, None] != np.array(views)[None]
        differences.append(np.where(across, hits - others, np.nan))  # [probes, gallery views]
        people.append(probes.people)
    lost, who = np.concatenate(differences), np.concatenate(people)
    by_person = 100 * np.array([np.nanmean(lost[who == person]) for person in np.unique(who)])
    error = float(by_person.std(ddof=1) / np.sqrt(len(by_person)))
    return {
        "compared": int(np.isfinite(lost).sum()),
        "only_float32": int((lost > 0).sum()),
        "only_found": int((lost < 0).sum()),
        "points": round(float(by_person.mean()), 4),
        "standard_error_points": round(error, 4),
        "at_most_points": round(float(by_person.mean()) + SURE * error, 4),
    }


def decisions(before: Walks, after: Walks) -> dict[str, Any]:
    """Count searches in a float32 gallery whose answer changes with the precision of the probe.

    The threshold is float32's own for a false-positive rate of `DECISION_FPIR`.
    """
    enrolled = np.isin(before.sequences, GALLERY)
    entries, people = before[enrolled], before.people[~enrolled]
    distances = [
        part_mean_distance(one.embeddings[~enrolled], entries.embeddings) for one in (before, after)
    ]  # [probes, entries] each
    strangers = np.where(entries.people == people[:, None], np.inf, distances[0])
    threshold = float(np.quantile(strangers.min(1), DECISION_FPIR))
    answered = [
        np.where(distance.min(1) < threshold, entries.people[distance.argmin(1)], -1)
        for distance in distances
    ]
    return {
        "compared": len(people),
        "changed": int((answered[0] != answered[1]).sum()),
        "named": int((answered[0] >= 0).sum()),
        "threshold": round(threshold, 5),
        "fpir": DECISION_FPIR,
    }


RULE_LENGTHS = (8, 8, 5)
"""Frames of the sequences that PyTorch computes in float16 too, which is slow on a CPU."""
RULE_FACTOR = 2.0  # |fp16 - ref| may be so many times |torch fp16 - ref|
RULE_FLOOR = 1e-4
TINY = 1e-12


@dataclass(frozen=True)
class Limits:
    """What a precision may cost at most; anything beyond fails the export."""

    cosine: float
    """Smallest cosine between a part's embedding and float32's, where both chose the same frame."""
    tie: float
    """Two scores are tied when they are nearer than this share of the sequence's largest."""
    wrong: float
    """Share of all salient frames that may differ without a tie."""
    rank1_points: float
    """Points of rank-1 across views that may be lost."""
    decisions: float
    """Share of the searches whose answer may change."""


FP16 = Limits(cosine=0.999, tie=2**-8, wrong=0.01, rank1_points=0.5, decisions=0.01)
INT8 = Limits(cosine=0.95, tie=2**-4, wrong=0.05, rank1_points=2.0, decisions=0.05)


@dataclass(frozen=True)
class Answers:
    """What a head says of m sequences."""

    embedding: Floats
    """[m, p, d]"""
    salient: Ints | None
    """[m, p], None without SSFL."""
    scores: Floats | None = None
    """[m, p, s]: the logits behind `salient`, where they were asked for."""


@dataclass(frozen=True)
class Judgement:
    """What was measured, and what is over a limit."""

    told: dict[str, Any]
    """For the manifest."""
    problems: list[str]
    rank1_drop_points: float
    """Of rank-1 across views."""
    rank1_drop_at_most_points: float
    """What the drop on more people is below, with 95 % certainty."""

    def check(self, what: str) -> None:
        """Raise ExportError when a gate is closed."""
        if self.problems:
            raise ExportError(
                f"{what}: {'; '.join(self.problems)}. Nothing was exported; export in another "
                "precision"
            )


def features(frames: Any, silhouettes: Any) -> list[Floats]:
    """Run a `frames` session on sequences uint8 [s, h, w] each: [s, p, c] each."""
    return [frames.run(None, {"silhouettes": walk})[0] for walk in silhouettes]


def answers(head: Any, windows: list[Floats], scores: str | None = None) -> Answers:
    """Run a `head` session on windows [s, p, c] of one length; `scores` names an output to keep."""
    names = [output.name for output in head.get_outputs()]
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for window in windows:
        feed = {"features": window[None], "lengths": np.array([len(window)], np.int32)}
        for name, value in zip(names, head.run(None, feed), strict=True):
            rows[name].append(value[0])
    found = {name: np.stack(values) for name, values in rows.items()}
    return Answers(found["embedding"], found.get(SALIENT), found[scores] if scores else None)


def judge(reference: Answers, found: Answers, walks: Any, limits: Limits) -> Judgement:
    """Hold answers against float32's, with `walks` (people, sequences, views_deg) to recognise."""
    same = np.ones(found.embedding.shape[:2], np.bool_)
    told: dict[str, Any] = {"limits": asdict(limits)}
    problems: list[str] = []
    if reference.salient is not None:
        assert found.salient is not None
        same = reference.salient == found.salient  # [m, p]
        told[SALIENT] = flips = _flips(reference, found.salient, limits.tie)
        if flips["wrong"] > limits.wrong * flips["compared"]:
            problems.append(
                f"{flips['wrong']} of {flips['compared']} salient frames differ without a tie, "
                f"expected at most {limits.wrong:.1%}"
            )
    told["cosine"] = cosine = _cosines(reference.embedding, found.embedding, same)
    if not cosine["smallest"] >= limits.cosine:  # a NaN is not
        problems.append(
            f"the smallest cosine of a part is {cosine['smallest']:.5f}, expected at least "
            f"{limits.cosine:g}"
        )
    told["max_abs_error"] = float(
        np.abs(reference.embedding - found.embedding)[same].max(initial=0)
    )
    told["max_abs_value"] = float(np.abs(reference.embedding).max())
    _recognition(reference, found, walks, limits, told, problems)
    lost = told["rank1"]["lost"]
    return Judgement(told, problems, lost["points"], lost["at_most_points"])


def rule(network: Cstl, silhouettes: Any, run: Any) -> dict[str, Any]:
    """Compare with PyTorch's own float16, on the first sequences of `silhouettes` [m, s, h, w].

    run: from (silhouettes, lengths) to (embedding [n, p, d], salient frames [n, p] or None)
    Returns the largest error where all chose the same frames, and what the rule allows:
    |fp16 - ref| <= 2 |torch fp16 - ref| + 1e-4.
    """
    given = np.ascontiguousarray(silhouettes[: len(RULE_LENGTHS), : max(RULE_LENGTHS)])
    lengths = np.minimum(RULE_LENGTHS[: len(given)], given.shape[1]).astype(np.int32)
    half = copy.deepcopy(network).half()
    with torch.no_grad():
        tensors = torch.tensor(given), torch.tensor(lengths)
        wanted, wanted_frames = network(*tensors)
        torch_half, half_frames = half(*tensors)
    found, found_frames = run(given, lengths)
    agreed = np.ones(found.shape[:2], np.bool_)
    if wanted_frames is not None:
        agreed = (wanted_frames.numpy() == found_frames) & (wanted_frames == half_frames).numpy()
    error = float(np.abs(found - wanted.numpy())[agreed].max(initial=0))
    theirs = float((torch_half - wanted).abs().numpy()[agreed].max(initial=0))
    allowed = RULE_FACTOR * theirs + RULE_FLOOR if np.isfinite(theirs) else RULE_FLOOR
    return {
        "max_abs_error": error,
        "torch_fp16_max_abs_error": theirs,
        "allowed": allowed,
        "parts_compared": int(agreed.sum()),
        "parts_with_other_frames": int(agreed.size - agreed.sum()),
    }


def _flips(reference: Answers, found: Ints, tie: float) -> dict[str, int]:
    """Count salient frames that differ, those between tied scores apart."""
    assert reference.salient is not None
    assert reference.scores is not None
    ties = wrong = 0
    for i, part in zip(*np.nonzero(reference.salient != found), strict=True):
        line = reference.scores[i, part]  # [s]
        gap = abs(float(line[reference.salient[i, part]] - line[found[i, part]]))
        if gap <= tie * float(np.abs(line).max()):
            ties += 1
        else:
            wrong += 1
    return {"compared": int(found.size), "ties": ties, "wrong": wrong}


def _cosines(reference: Floats, found: Floats, same: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return cosines of the parts' embeddings, the smallest where the same frame was chosen."""
    lengths = np.linalg.norm(reference, axis=2) * np.linalg.norm(found, axis=2)
    cosine = (reference * found).sum(2) / np.maximum(lengths, TINY)  # [m, p]
    cosine[(reference == found).all(2)] = 1.0  # also where both are zero: a part without a pixel
    agreed = np.where(same, cosine, 1.0)
    return {
        "mean": float(cosine.mean()),
        "smallest": float(agreed.min()),
        "smallest_by_part": [round(float(x), 6) for x in agreed.min(0)],
    }


def _recognition(
    reference: Answers,
    found: Answers,
    walks: Any,
    limits: Limits,
    told: dict[str, Any],
    problems: list[str],
) -> None:
    """Add rank-1 and decisions, and what of them is over a limit."""
    before, after = (
        Walks(one.embedding, walks.people, walks.sequences, walks.views_deg)
        for one in (reference, found)
    )
    told["rank1"] = rank1(before, after)
    lost = told["rank1"]["lost"]["points"]
    if not lost <= limits.rank1_points:
        problems.append(
            f"rank-1 falls by {lost:.2f} points, expected at most {limits.rank1_points:g}"
        )
    told["decisions"] = decided = decisions(before, after)
    if decided["changed"] > limits.decisions * decided["compared"]:
        problems.append(
            f"{decided['changed']} of {decided['compared']} searches end otherwise, expected at "
            f"most {limits.decisions:.1%}"
        )
