"""Decide whether a reduced precision is accurate enough: the accuracy gate of fp16 and int8.

The outputs of a reduced head are compared with float32's on the same sequences: cosine of every
part's embedding, salient frames, and what the difference changes in recognition (rank-1 and
decisions at a threshold). A precision beyond a limit is not exported.

Letters: m sequences, s frames, p parts, c channels, d embedding dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict, cast

import numpy as np
import torch

from cstl_edge.arrays import Bools, Floats, Ints, Silhouettes
from cstl_edge.distance import EUCLIDEAN, Distance
from cstl_edge.errors import ExportError
from cstl_edge.evaluation.closed_set import rank1_hits, rank1_table
from cstl_edge.evaluation.embeddings import GALLERY, PROBES, LabelledEmbeddings
from cstl_edge.export.checks.parity import SALIENT
from cstl_edge.model import Cstl
from cstl_edge.numerics import TOLERANCES, cosine_per_part, count_flips, largest_error
from cstl_edge.walkers.collection import WalkersSet

if TYPE_CHECKING:
    from typing_extensions import NotRequired

DECISION_FPIR = 0.01
CERTAIN = 1.645  # standard errors: 95 of 100 losses like it lie below

HALF_LENGTHS = (8, 8, 5)
"""Frames of the sequences that PyTorch computes in float16 too, which is slow on a CPU."""
HALF_FACTOR = 2.0  # |fp16 - ref| may be so many times |torch fp16 - ref|
HALF_FLOOR = 1e-4


@dataclass(frozen=True)
class GateLimits:
    """What a precision may cost at most; anything beyond fails the export."""

    cosine: float  # smallest of a part's embedding with float32's, where both chose the same frame
    tie: float  # two scores tie when they are nearer than this share of the sequence's largest
    wrong: float  # share of all salient frames that may differ without a tie
    rank1_points: float  # points of rank-1 across views that may be lost
    decisions: float  # share of the searches whose answer may change


def _limits(precision: str, rank1_points: float, decisions: float) -> GateLimits:
    outputs = TOLERANCES["gate"][precision]
    return GateLimits(outputs.cosine, outputs.tie, outputs.flips, rank1_points, decisions)


FP16 = _limits("fp16", rank1_points=0.5, decisions=0.01)
INT8 = _limits("int8", rank1_points=2.0, decisions=0.05)


@dataclass(frozen=True)
class HeadOutputs:
    """The outputs of a head for m sequences."""

    embedding: Floats  # [m, p, d]
    salient: Ints | None  # [m, p], None without SSFL
    scores: Floats | None = None  # [m, p, s], the logits behind `salient`, where asked for


class CosineReport(TypedDict):
    """Cosines of the parts' embeddings with float32's."""

    mean: float  # of all parts
    smallest: float  # of the parts whose frame is the same on both sides, as in what follows
    smallest_by_part: list[float]


class Rank1Loss(TypedDict):
    """Rank-1 across views compared search by search; `found` is the reduced precision."""

    compared: int
    only_float32: int
    only_found: int
    points: float
    standard_error_points: float
    at_most_points: float  # what the loss on more people is below, with 95 % certainty


class Rank1Report(TypedDict):
    """Rank-1 in float32 (`float32`), in the reduced precision (`found`), and the loss (`lost`)."""

    float32: dict[str, float]
    """Rank-1 0..1, mean over conditions, `same_view` and `cross_view`; `found` alike."""
    found: dict[str, float]
    lost: Rank1Loss


class DecisionsReport(TypedDict):
    """What a precision changes in the answers of searches at a threshold."""

    compared: int
    changed: int
    named: int  # searches that float32 answers with a name
    threshold: float
    fpir: float


class GateReport(TypedDict):
    """What an accuracy gate measured (manifest: `precisions.<name>.judged.<who>`)."""

    limits: dict[str, float]  # as `accuracy_gate.GateLimits`
    salient_frames: NotRequired[dict[str, int]]  # absent without SSFL
    cosine: CosineReport
    max_abs_error: float
    max_abs_value: float
    rank1: Rank1Report
    decisions: DecisionsReport
    rule: NotRequired[dict[str, dict[str, float]]]  # of fp16, by graphs
    window_frames: NotRequired[int]  # of the incremental head


@dataclass(frozen=True)
class GateResult:
    """What an accuracy gate measured, and what is over a limit."""

    report: GateReport  # for the manifest
    problems: list[str]

    @property
    def rank1_change(self) -> Rank1Loss:
        """Return the change of rank-1 across views; its points count losses."""
        return self.report["rank1"]["lost"]

    def check(self, label: str) -> None:
        """Raise ExportError when the gate is closed."""
        if self.problems:
            raise ExportError(
                f"{label}: {'; '.join(self.problems)}. Nothing was exported; export in another "
                "precision"
            )


def run_frames(frames: Any, silhouettes: Iterable[Silhouettes]) -> list[Floats]:
    """Run a `frames` session on sequences [s, h, w] each: features [s, p, c] each."""
    return [frames.run(None, {"silhouettes": sequence})[0] for sequence in silhouettes]


def run_head(head: Any, windows: list[Floats], scores: str | None = None) -> HeadOutputs:
    """Run a `head` session on windows of one length, one by one.

    Args:
        head: ONNX Runtime session.
        windows: Features [s, p, c] each.
        scores: Name of the output that holds the scores, or None.
    """
    names = [output.name for output in head.get_outputs()]
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for window in windows:
        feed = {"features": window[None], "lengths": np.array([len(window)], np.int32)}
        for name, value in zip(names, head.run(None, feed), strict=True):
            rows[name].append(value[0])
    outputs = {name: np.stack(values) for name, values in rows.items()}
    return HeadOutputs(
        outputs["embedding"], outputs.get(SALIENT), outputs[scores] if scores else None
    )


def evaluate(
    reference: HeadOutputs,
    outputs: HeadOutputs,
    labels: WalkersSet,
    limits: GateLimits,
    distance: Distance = EUCLIDEAN,
) -> GateResult:
    """Compare a precision's outputs with float32's.

    Args:
        reference: Outputs of float32 for m sequences, with the scores behind the salient frames.
        outputs: Outputs of the precision for the same sequences.
        labels: People, recordings and views of the sequences, to recognise them.
        limits: Largest costs allowed.
        distance: The model's, by which people are recognised.
    """
    same, problems = np.ones(outputs.embedding.shape[:2], np.bool_), list[str]()
    frames: dict[str, Any] = {}  # nothing without SSFL
    if reference.salient is not None:
        assert outputs.salient is not None
        assert reference.scores is not None
        same = reference.salient == outputs.salient  # [m, p]
        flips = count_flips(reference.salient, outputs.salient, reference.scores, limits.tie)
        frames[SALIENT] = {"compared": flips.compared, "ties": flips.ties, "wrong": flips.wrong}
        if flips.wrong > limits.wrong * flips.compared:
            problems.append(
                f"{flips.wrong} of {flips.compared} salient frames differ without a tie, "
                f"expected at most {limits.wrong:.1%}"
            )
    cosine = _cosines(reference.embedding, outputs.embedding, same)
    if not cosine["smallest"] >= limits.cosine:  # a NaN is not
        problems.append(
            f"the smallest cosine of a part is {cosine['smallest']:.5f}, expected at least "
            f"{limits.cosine:g}"
        )
    known = labels.people, labels.sequences, labels.views_deg
    before = LabelledEmbeddings(reference.embedding, *known).compared_by(distance)
    after = replace(before, embeddings=outputs.embedding)
    rank1, decisions = compare_rank1(before, after), compare_decisions(before, after)
    problems += _recognition_problems(rank1["lost"], decisions, limits)
    report = {
        "limits": asdict(limits),
        **frames,
        "cosine": cosine,
        "max_abs_error": largest_error(reference.embedding, outputs.embedding, same),
        "max_abs_value": float(np.abs(reference.embedding).max()),
        "rank1": rank1,
        "decisions": decisions,
    }
    return GateResult(cast("GateReport", report), problems)


def compare_rank1(before: LabelledEmbeddings, after: LabelledEmbeddings) -> Rank1Report:
    """Return rank-1 of float32 and of another precision, and what was lost between them."""
    float32, reduced = (
        {view: mean[view] for view in ("same_view", "cross_view")}
        for mean in (rank1_table(embedded)["mean"] for embedded in (before, after))
    )
    return {"float32": float32, "found": reduced, "lost": paired_loss(before, after)}


def paired_loss(before: LabelledEmbeddings, after: LabelledEmbeddings) -> Rank1Loss:
    """Compare rank-1 across views search by search, on the same sequences in two precisions.

    Searches that end alike say nothing of the difference, so its standard error is that of the
    others: far smaller than that of either rank-1. People are what was sampled, hence it is taken
    over their means. `at_most_points` is what the loss on more people is below, 95 % certain.
    """
    differences, people = [], []
    for condition in PROBES:
        (hits, views, probes), (other_hits, _, _) = (
            rank1_hits(embedded, condition) for embedded in (before, after)
        )
        across = probes.views_deg[:, None] != np.array(views)[None]
        differences.append(np.where(across, hits - other_hits, np.nan))  # [probes, gallery views]
        people.append(probes.people)
    change, persons = np.concatenate(differences), np.concatenate(people)
    by_person = 100 * np.array([np.nanmean(change[persons == k]) for k in np.unique(persons)])
    error = float(by_person.std(ddof=1) / np.sqrt(len(by_person)))
    return {
        "compared": int(np.isfinite(change).sum()),
        "only_float32": int((change > 0).sum()),
        "only_found": int((change < 0).sum()),
        "points": round(float(by_person.mean()), 4),
        "standard_error_points": round(error, 4),
        "at_most_points": round(float(by_person.mean()) + CERTAIN * error, 4),
    }


def compare_decisions(before: LabelledEmbeddings, after: LabelledEmbeddings) -> DecisionsReport:
    """Count searches in a float32 gallery whose answer changes with the precision of the probe.

    The threshold is float32's own for a false-positive rate of `DECISION_FPIR`.
    """
    enrolled = np.isin(before.sequences, GALLERY)
    entries, people = before[enrolled], before.people[~enrolled]
    distances = [
        before.distance.pairwise(embedded.embeddings[~enrolled], entries.embeddings, before.mean)
        for embedded in (before, after)
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


def compare_with_torch_half(
    network: Cstl,
    silhouettes: Silhouettes,
    run: Callable[[Silhouettes, Ints], Sequence[Any]],
) -> dict[str, float]:
    """Compare fp16 graphs with PyTorch's own float16, on a few sequences.

    The rule is |fp16 - ref| <= 2 |torch fp16 - ref| + 1e-4, where all chose the same frames.

    Args:
        network: Network in float32, its norms folded.
        silhouettes: [m, s, h, w], of which the first are taken.
        run: Function that runs the graphs, from (silhouettes, lengths) to embedding [n, p, d] and,
            with SSFL, salient frames [n, p].
    """
    windows = np.ascontiguousarray(silhouettes[: len(HALF_LENGTHS), : max(HALF_LENGTHS)])
    lengths = np.minimum(HALF_LENGTHS[: len(windows)], windows.shape[1]).astype(np.int32)
    half = copy.deepcopy(network).half()
    with torch.no_grad():
        tensors = torch.tensor(windows), torch.tensor(lengths)
        reference, reference_frames = network(*tensors)
        torch_half, half_frames = half(*tensors)
    embedding, *frames = run(windows, lengths)
    agreed = np.ones(embedding.shape[:2], np.bool_)
    if reference_frames is not None:
        agreed = (reference_frames.numpy() == frames[0]) & (reference_frames == half_frames).numpy()
    expected = reference.numpy()
    theirs = largest_error(torch_half.numpy(), expected, agreed)
    return {
        "max_abs_error": largest_error(embedding, expected, agreed),
        "torch_fp16_max_abs_error": theirs,
        "allowed": HALF_FLOOR + (HALF_FACTOR * theirs if np.isfinite(theirs) else 0.0),
        "parts_compared": int(agreed.sum()),
        "parts_with_other_frames": int(agreed.size - agreed.sum()),
    }


def _cosines(reference: Floats, embedding: Floats, same: Bools) -> CosineReport:
    """Return cosines of the parts' embeddings, the smallest where the same frame was chosen."""
    cosine = cosine_per_part(reference, embedding)  # [m, p]
    agreed = np.where(same, cosine, 1.0)
    return {
        "mean": float(cosine.mean()),
        "smallest": float(agreed.min()),
        "smallest_by_part": [round(float(x), 6) for x in agreed.min(0)],
    }


def _recognition_problems(
    loss: Rank1Loss, decisions: DecisionsReport, limits: GateLimits
) -> list[str]:
    """Return what of rank-1 and decisions is over a limit."""
    problems = []
    if not loss["points"] <= limits.rank1_points:
        problems.append(
            f"rank-1 falls by {loss['points']:.2f} points, expected at most {limits.rank1_points:g}"
        )
    if decisions["changed"] > limits.decisions * decisions["compared"]:
        problems.append(
            f"{decisions['changed']} of {decisions['compared']} searches end otherwise, expected "
            f"at most {limits.decisions:.1%}"
        )
    return problems
