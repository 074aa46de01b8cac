"""Scenario `accuracy`: recognition by each backend and precision, on the same people.

Walkers that nothing was trained, calibrated or chosen on, in the CASIA-B protocol: rank-1 across
views (mean of normal walking, bag and coat), and FNIR at an FPIR of 1 % with half of the people
enrolled. Differences are from the first float32 of the run, paired: intervals resample people, and
those drawn count in both. The long form has all 50 people and 11 views, the others a few of both:
they show what a precision changes, not how good the network is.

`values`: `rank1`, `rank1_same_view`, `fnir`, `fpir` (that the thresholds gave), `people`,
`sequences`; `rank1_difference`, `fnir_difference` (this less float32's, shares). 95 % intervals of
all but the counts stand in `intervals`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cstl_edge.bench.backends.base import Unavailable
from cstl_edge.bench.backends.embedders import Embedder, embedders
from cstl_edge.bench.context import Context
from cstl_edge.bench.record import Case, Row
from cstl_edge.data.shards import ShardedSequences
from cstl_edge.errors import ConfigError, CstlEdgeError
from cstl_edge.evaluation.closed_set import rank1_hits, rank1_table
from cstl_edge.evaluation.embeddings import PROBES, LabelledEmbeddings
from cstl_edge.evaluation.held_out import CACHE, WALKERS_FRAMES, WALKERS_IDS
from cstl_edge.evaluation.intervals import by_person, compare
from cstl_edge.evaluation.open_set import (
    LEAST_PEOPLE,
    OpenSetRecord,
    compare_fnir,
    evaluate_open_set,
    run_searches,
)
from cstl_edge.evaluation.protocols import select_trials
from cstl_edge.extras import missing_package
from cstl_edge.silhouette import SIZES

FPIR = 0.01
VIEWS_DEG = (18, 90, 162)
SHORT_VIEWS_DEG = (18, 162)
BATCH = 10  # sequences; everybody has ten per view, so that no batch is of another shape
FEWEST = 2  # people: one alone has nobody to be taken for
DRAWS = 200  # of people, for the intervals
FULL_DRAWS, SHORT_DRAWS = 500, 50


class RecognitionFigures(NamedTuple):
    """Figures of one backend, and the data that a comparison needs."""

    walks: LabelledEmbeddings
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    open_set: OpenSetRecord | None  # of `evaluate_open_set`; None with too few people


def rows(context: Context) -> Iterator[Row]:
    """Yield a row per backend and precision, when everybody was embedded and matched."""
    data = walkers_set(context)
    draws = FULL_DRAWS if context.full else SHORT_DRAWS if context.short else DRAWS
    reference: tuple[str, RecognitionFigures] | None = None
    case = Case(graph="full", batch=BATCH, frames=WALKERS_FRAMES)
    for embedder in embedders(context):
        name = embedder.name
        if isinstance(embedder, Unavailable):
            yield context.row("accuracy", name, case=case, skipped=embedder.reason)
            continue
        context.progress(f"accuracy: {name}, {len(data.people)} sequences")
        try:
            figures = recognition_figures(embed_people(embedder, data), draws)
        except CstlEdgeError as err:
            yield context.row("accuracy", name, case=case, skipped=str(err))
            continue
        ran = embedder.ran()
        if reference is None and ran.precision == ran.computed_in == "float32":
            reference = name, figures
        elif reference is not None:
            _compare(figures, reference[1], draws)
        details = _details(data, figures, reference and reference[0])
        fields = {"values": figures.values, "intervals": figures.intervals, "details": details}
        fields["warnings"] = accuracy_warnings(figures)
        yield context.row("accuracy", name, case=case, ran=ran, **fields)


def walkers_set(context: Context) -> ShardedSequences:
    """Return the Walkers, generated where they are not cached (ConfigError where impossible)."""
    if context.model.size not in SIZES:
        raise ConfigError(
            f"expected silhouettes of {' or '.join(map(str, SIZES))}, as Walkers are made; this "
            f"network takes {context.model.size}"
        )
    try:
        from cstl_edge.data.walkers_dataset import WalkersSettings, make_shards
        from cstl_edge.walkers.collection import VIEWS_DEG as ALL_VIEWS_DEG
    except ImportError as err:
        raise missing_package("Walkers need cv2", "cv") from err
    views = ALL_VIEWS_DEG if context.full else SHORT_VIEWS_DEG if context.short else VIEWS_DEG
    recorded = {"nm": 6, "bg": 2, "cl": 2, "frames": WALKERS_FRAMES, "views_deg": views}
    people = {"people": max(FEWEST, context.budget.people), "first": WALKERS_IDS[0]}
    settings = WalkersSettings.model_validate(people | recorded | {"size": context.model.size})
    return ShardedSequences(make_shards(settings, CACHE, workers=context.threads))


def embed_people(embedder: Embedder, data: ShardedSequences) -> LabelledEmbeddings:
    """Embed every sequence, BATCH at a time; they are of one length."""
    batches = []
    for start in range(0, len(data.people), BATCH):
        rows = range(start, min(start + BATCH, len(data.people)))
        silhouettes = np.stack([data.read(row) for row in rows])  # [n, s, h, w]
        batches.append(embedder.encoder.encode(silhouettes).embedding)
    return LabelledEmbeddings(np.concatenate(batches), data.people, data.sequences, data.views_deg)


def recognition_figures(walks: LabelledEmbeddings, draws: int) -> RecognitionFigures:
    """Return rank-1 and FNIR with their intervals; without FNIR where people are too few."""
    mean = rank1_table(walks, draws=draws)["mean"]
    values = {"rank1": mean["cross_view"], "rank1_same_view": mean["same_view"]}
    intervals = {"rank1": mean["cross_view_95"], "rank1_same_view": mean["same_view_95"]}
    result = None
    if len(np.unique(walks.people)) >= LEAST_PEOPLE:
        result = evaluate_open_set(walks, select_trials(walks, "open-set"), [FPIR], draws=draws)
        at = result["errors"][0]
        values |= {"fnir": at["fnir"], "fpir": at["fpir"]}
        intervals["fnir"] = at["fnir_95"]
    values |= {"people": len(np.unique(walks.people)), "sequences": len(walks.people)}
    pairs = {name: (low, high) for name, (low, high) in intervals.items()}
    return RecognitionFigures(walks, values, pairs, result)


def rank1_per_person(walks: LabelledEmbeddings) -> npt.NDArray[np.float64]:
    """Return each person's rank-1 across views, the mean of the conditions: [people], sorted."""
    means = []
    for condition in PROBES:
        hits, views, probes = rank1_hits(walks, condition)
        same = probes.views_deg[:, None] == np.array(views)[None]
        means.append(by_person(np.where(same, np.nan, hits), probes.people))
    return np.asarray(np.mean(means, axis=0), np.float64)


def accuracy_warnings(figures: RecognitionFigures) -> list[str]:
    """Return the warnings about figures of too few people."""
    many = int(figures.values["people"])
    if figures.open_set is None:
        return [f"no FNIR with {many} people: half are enrolled, {LEAST_PEOPLE} are the least"]
    if figures.open_set["errors"][0]["provable"]:
        return []
    searched, least = (figures.open_set[key] for key in ("non_mated_searches", "provable_fpir"))
    return [
        f"an FPIR of {FPIR:.0%} cannot be proved with {many} people: {searched} non-mated searches "
        f"prove {least:.1%} at best"
    ]


def _compare(figures: RecognitionFigures, reference: RecognitionFigures, draws: int) -> None:
    """Add the paired differences from a reference."""
    other = compare(rank1_per_person(figures.walks), rank1_per_person(reference.walks), draws=draws)
    figures.values["rank1_difference"] = round(other.difference, 5)
    figures.intervals["rank1_difference"] = other.interval_95
    if figures.open_set is not None:
        protocol = select_trials(figures.walks, "open-set")
        own, theirs = (run_searches(x.walks, protocol) for x in (figures, reference))
        difference, interval = compare_fnir(own, theirs, FPIR, draws=draws)
        figures.values["fnir_difference"] = round(difference, 5)
        figures.intervals["fnir_difference"] = interval


def _details(
    data: ShardedSequences, figures: RecognitionFigures, reference: str | None
) -> dict[str, Any]:
    ids = np.unique(data.people)
    details: dict[str, Any] = {
        "data": f"Walkers {ids[0]} to {ids[-1]}, synthetic people, never trained on",
        "views_deg": np.unique(data.views_deg).tolist(),
        "difference_from": reference,
        "fpir_wanted": FPIR,
    }
    if figures.open_set is not None:
        details["open_set"] = {k: v for k, v in figures.open_set.items() if k != "det"}
    return details
