"""Thresholds of a search: from the model's impostor table, or from the gallery's own scores.

The table holds, by how much of a stranger's walk was seen, by the number of walks that each person
is enrolled from and by the number of people, the distance below which a stranger's nearest entry
falls with a given probability (FPIR).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cstl_edge.arrays import Doubles
from cstl_edge.errors import ModelError
from cstl_edge.gallery.index import TemplateIndex

MODEL_PEOPLE = 20  # up to so many the model's table gives the threshold, above them the gallery


class Threshold(NamedTuple):
    """The distance below which a match counts, and where it comes from."""

    value: float | None
    source: str  # one of model, gallery, given, none
    note: str | None = None  # a limit of this threshold, in words


class ImpostorTable:
    """The shipped thresholds of a model by windows seen, walks enrolled, people and rate."""

    def __init__(self, impostors: Mapping[str, Any]) -> None:
        """Read {"seen": [s], "walks": [k], "sizes": [i], "fpir": [j], "threshold": [s][k][i][j]}.

        Without "walks" the thresholds hold for one walk per person, without "seen" for any length
        of what was seen: folders of earlier versions have neither. Raises ModelError.
        """
        try:
            self.by_seen = "seen" in impostors
            self.seen = np.asarray(impostors.get("seen", [1]), np.float64)
            self.walks = np.asarray(impostors.get("walks", [1]), np.float64)
            self.sizes = np.asarray(impostors["sizes"], np.float64)
            self.fpir = np.asarray(impostors["fpir"], np.float64)
            self.threshold = np.asarray(impostors["threshold"], np.float64)
            for axis in ("walks", "seen"):
                if axis not in impostors:
                    self.threshold = self.threshold[None]
        except (AttributeError, KeyError, TypeError, ValueError) as err:
            raise ModelError(
                f"the model's impostor table cannot be read ({err}): re-export"
            ) from err
        axes = (self.seen, self.walks, self.sizes, self.fpir)
        rising = all(a.ndim == 1 and a.size and (np.diff(a, prepend=0) > 0).all() for a in axes)
        expected = tuple(axis.size for axis in axes)
        if not (rising and self.threshold.shape == expected and (self.threshold > 0).all()):
            raise ModelError(
                "the model's impostor table is malformed: expected rising windows, walks, sizes and"
                f" rates, and a positive threshold for each, got {self.threshold.shape} thresholds:"
                " re-export"
            )

    def threshold_at(
        self, people: int, fpir: float, walks: float = 1, seen: float = 1
    ) -> Threshold:
        """Return the threshold; outside the table that of the nearest edge, with a note.

        Args:
            people: Number of people enrolled.
            fpir: Requested rate, 0..1.
            walks: Walks that each person is enrolled from.
            seen: Windows of the search's walk that do not overlap.
        """
        outside = [
            f"{name} {value:g} is {'below' if value < axis[0] else 'above'} the model's table:"
            f" taken for {min(max(value, axis[0]), axis[-1]):g}"
            for name, value, axis in (("people", people, self.sizes), ("fpir", fpir, self.fpir))
            if not axis[0] <= value <= axis[-1]
        ]
        return Threshold(self.value(people, fpir, walks, seen), "model", "; ".join(outside) or None)

    def value(self, people: float, fpir: float, walks: float, seen: float) -> float:
        """Interpolate a threshold in the logarithms of all axes, never beyond the edges.

        Args:
            people: Number of people enrolled.
            fpir: Requested rate, 0..1.
            walks: Walks that each person is enrolled from.
            seen: Windows of the search's walk that do not overlap.
        """
        values = self.threshold
        for wanted, axis in (
            (seen, self.seen), (walks, self.walks), (people, self.sizes), (fpir, self.fpir)
        ):  # fmt: skip
            values = _interpolated(wanted, axis, values)
        return float(values)


def choose_threshold(
    index: TemplateIndex, table: ImpostorTable | None, fpir: float, seen: float = 1
) -> Threshold:
    """Find the distance that an impostor falls below with probability `fpir` in this gallery.

    Up to MODEL_PEOPLE people it comes from the model's table, above from the gallery's own impostor
    scores: as many of them lie below the threshold as `fpir` allows. When it allows none, the
    smallest score is extrapolated to `fpir` along the model's curve; without a table the smallest
    score is the threshold. A note reports both cases.

    Args:
        index: Templates of the gallery.
        table: Impostor table of the model, None when it ships none.
        fpir: Requested false-positive identification rate, 0..1.
        seen: Windows of the search's walk that do not overlap.
    """
    people = len(index.names)
    templates_each = index.count / people
    each = index.walks_each if table and table.by_seen else templates_each
    if people <= MODEL_PEOPLE:
        return table.threshold_at(people, fpir, each, seen) if table else Threshold(None, "none")
    scores = index.impostor_scores
    allowed = int(fpir * len(scores) + 1e-9)
    value = float(scores[allowed])
    if allowed:
        return Threshold(value, "gallery")
    cannot = f"{len(scores)} scores of this gallery cannot show a rate of {fpir:g}: the smallest"
    if table is None:
        return Threshold(value, "gallery", f"{cannot} is the threshold")
    ours, at_scores = (table.value(people, rate, each, 1) for rate in (fpir, 1 / len(scores)))
    return Threshold(
        value * ours / at_scores, "gallery", f"{cannot} is carried there along the model's curve"
    )


def _interpolated(wanted: float, axis: Doubles, values: Doubles) -> Doubles:
    """Interpolate the first axis of `values` in its logarithm, never beyond the edges."""
    place = np.interp(np.log(wanted), np.log(axis), np.arange(len(axis)))
    low = min(int(place), len(axis) - 1)
    high, share = min(low + 1, len(axis) - 1), place - low
    return np.asarray((1 - share) * values[low] + share * values[high], np.float64)
