"""Evaluation protocols: probes and gallery of each, as indices of sequences.

`casia-b`             gallery nm-01..04, probes nm-05/06, bg, cl; each pair of different views
`ou-mvlp`             gallery 01, probes 00; each pair of different views
`cross-view-gallery`  one probe of each condition among second recordings of all views, without
                      the same person's of the probe's own view
`gait3d`              one gallery for everybody; a probe whose person is not in it is left out
`open-set`            the galleries and probes of the first two; half of the people are strangers
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cstl_edge.arrays import Bools, Indices
from cstl_edge.errors import ConfigError, DataError, one_line
from cstl_edge.evaluation.embeddings import GALLERY, PROBES, LabelledEmbeddings

PROTOCOLS = ("auto", "casia-b", "ou-mvlp", "cross-view-gallery", "gait3d", "open-set")

BY_PAIR = "pairs of views"  # identical ones excluded; mean over gallery views, then probe views
BY_PROBE = "probe view"  # one gallery; mean over probe views
WHOLE = "whole"  # one gallery; mean over probes

CROSS_PROBES = {"nm": ("nm-01",), "bg": ("bg-01",), "cl": ("cl-01",)}
# Names of the sequences in the gallery, and of the probes by condition
BY_NAME: dict[str, tuple[Sequence[str], Mapping[str, Sequence[str]], str, str]] = {
    "casia-b": (GALLERY, PROBES, BY_PAIR, "gallery nm-01..04, probes nm, bg, cl"),
    "ou-mvlp": (("01",), {"all": ("00",)}, BY_PAIR, "gallery 01, probes 00"),
    "cross-view-gallery": (
        ("nm-02", "bg-02", "cl-02"), CROSS_PROBES, BY_PROBE,
        "gallery nm-02, bg-02, cl-02 of all views but the probe's own of the same person, probes "
        "nm-01, bg-01, cl-01",
    ),
    "cross-view-gallery of ou-mvlp": (
        ("01",), {"all": ("00",)}, BY_PROBE,
        "gallery 01 of all views but the probe's own of the same person",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Trials:
    """Probes by condition and their gallery, as indices of sequences."""

    protocol: str
    gallery: Indices
    probes: Mapping[str, Indices]  # `nm`, `bg`, `cl`, or `all`
    averaged: str  # BY_PAIR, BY_PROBE or WHOLE
    drop_unmated: bool
    """Leave out probes whose person is not in the gallery, in place of counting them as missed."""
    description: str  # gallery and probes in words

    @property
    def drop_same_view(self) -> bool:
        """Leave out, for each probe, its person's recordings of the probe's own view.

        The field's toolbox does so where one gallery holds all views; without it the nearest entry
        is mostly the same person from the same camera.
        """
        return self.protocol == "cross-view-gallery"


def check_protocol(name: str) -> None:
    """Raise ConfigError for a name that is not in PROTOCOLS."""
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name, PROTOCOLS, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(PROTOCOLS)}"
        raise ConfigError(f"expected a protocol, got {one_line(name)!r}. {hint}")


def choose_protocol(sequences: Sequence[str]) -> str:
    """Choose the protocol by the names of the sequences: what `auto` means."""
    names = set(sequences)
    if names & set(GALLERY):
        return "casia-b"
    return "ou-mvlp" if names and names <= {"00", "01"} else "gait3d"


def select_trials(
    labelled: LabelledEmbeddings,
    protocol: str,
    *,
    probe: Bools | None = None,
    drop_unmated: bool | None = None,
) -> Trials:
    """Select the probes and the gallery of a protocol.

    Args:
        labelled: m sequences; only their labels are used.
        protocol: One of PROTOCOLS but `auto`.
        probe: [m], the probes of `gait3d` and `open-set`. Default: by the names of the sequences,
            or each person's first sequence where the names are neither CASIA-B's nor OU-MVLP's.
        drop_unmated: Leave out probes whose person is not in the gallery. Default: as the field
            does, for `gait3d` alone.

    Raises:
        DataError: No probes, or nothing in the gallery.
    """
    gallery, probes, averaged, description = _sides(labelled, protocol, probe)
    if not gallery.size or not any(rows.size for rows in probes.values()):
        names = ", ".join(sorted(set(labelled.sequences.tolist()))[:12])
        raise DataError(
            f"protocol {protocol}: expected {description}; got {gallery.size} sequences for the "
            f"gallery and {sum(rows.size for rows in probes.values())} probes. Sequences there: "
            f"{one_line(names)}"
        )
    if averaged == BY_PAIR and len(set(labelled.views_deg.tolist())) < 2:
        raise DataError(
            f"protocol {protocol} excludes identical views: expected 2 views at least, got 1. Use "
            "--protocol gait3d"
        )
    drop = protocol == "gait3d" if drop_unmated is None else drop_unmated
    present = {name: rows for name, rows in probes.items() if rows.size}
    return Trials(protocol, gallery, present, averaged, drop, description)


def _sides(
    labelled: LabelledEmbeddings, protocol: str, probe: Bools | None
) -> tuple[Indices, dict[str, Indices], str, str]:
    """Return gallery, probes by condition, averaging, and gallery and probes in words."""
    by_names = choose_protocol(labelled.sequences.tolist())
    gallery_form = f"{protocol} of {by_names}"
    if (key := gallery_form if gallery_form in BY_NAME else protocol) in BY_NAME:
        names, conditions, averaged, description = BY_NAME[key]
        rows = {
            condition: np.flatnonzero(np.isin(labelled.sequences, list(searched)))
            for condition, searched in conditions.items()
        }
        gallery = np.flatnonzero(np.isin(labelled.sequences, list(names)))
        return gallery, rows, averaged, description
    if protocol == "open-set" and probe is None and by_names != "gait3d":
        gallery, by_condition, _, description = _sides(labelled, by_names, None)
        together = np.concatenate(list(by_condition.values()))
        return gallery, {"all": np.sort(together)}, WHOLE, description
    mask = first_of_each(labelled) if probe is None else probe
    description = "the listed probes, all others in the gallery"
    if probe is None:
        description = "each person's first sequence as probe, all others in the gallery"
    return np.flatnonzero(~mask), {"all": np.flatnonzero(mask)}, WHOLE, description


def first_of_each(labelled: LabelledEmbeddings) -> Bools:
    """Return which sequence is its person's first, by name and then by view: [m]."""
    order = np.lexsort((labelled.views_deg, labelled.sequences, labelled.people))
    _, starts = np.unique(labelled.people[order], return_index=True)
    mask = np.zeros(len(order), np.bool_)
    mask[order[starts]] = True
    return mask
