"""Who is searched among whom: the protocols of the field as lists of trials.

`casia-b`             gallery nm-01..04, probes nm-05/06, bg, cl; each pair of different views
`ou-mvlp`             gallery 01, probes 00; each pair of different views
`cross-view-gallery`  one probe of each condition among all views of the others' second recordings
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
from cstl_edge.evaluation.embeddings import GALLERY, PROBES, Walks

PROTOCOLS = ("auto", "casia-b", "ou-mvlp", "cross-view-gallery", "gait3d", "open-set")

BY_PAIR = "pairs of views"  # identical ones excluded; mean over gallery views, then probe views
BY_PROBE = "probe view"  # one gallery; mean over probe views
WHOLE = "whole"  # one gallery; mean over probes

OU_GALLERY, OU_PROBES = ("01",), {"all": ("00",)}
CROSS_GALLERY = ("nm-02", "bg-02", "cl-02")
CROSS_PROBES = {"nm": ("nm-01",), "bg": ("bg-01",), "cl": ("cl-01",)}


@dataclass(frozen=True)
class Trials:
    """Probes by condition and their gallery, as indices of sequences."""

    protocol: str
    gallery: Indices
    probes: Mapping[str, Indices]
    """`nm`, `bg`, `cl`, or `all`."""
    averaged: str
    """BY_PAIR, BY_PROBE or WHOLE."""
    drop_unmated: bool
    """Leave out probes whose person is not in the gallery, in place of counting them as missed."""
    said: str
    """Gallery and probes in words."""


def check_protocol(name: str) -> None:
    """Refuse a name that is none of PROTOCOLS (ConfigError)."""
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name, PROTOCOLS, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(PROTOCOLS)}"
        raise ConfigError(f"expected a protocol, got {one_line(name)!r}. {hint}")


def choose(sequences: Sequence[str]) -> str:
    """Return the protocol that goes with the names of the sequences: what `auto` means."""
    names = set(sequences)
    if names & set(GALLERY):
        return "casia-b"
    return "ou-mvlp" if names and names <= {"00", "01"} else "gait3d"


def trials(
    walks: Walks,
    protocol: str,
    *,
    probe: Bools | None = None,
    drop_unmated: bool | None = None,
) -> Trials:
    """Return the trials of a protocol; of the walks only their labels count.

    probe: [m], who is a probe under `gait3d` and `open-set`; by default as the names say, or, where
    they are neither CASIA-B's nor OU-MVLP's, each person's first sequence
    drop_unmated: None means as the field does, under `gait3d` alone
    Raises DataError when there is nothing to search for or among.
    """
    gallery, probes, averaged, said = _sides(walks, protocol, probe)
    if not gallery.size or not any(rows.size for rows in probes.values()):
        seen = ", ".join(sorted(set(walks.sequences.tolist()))[:12])
        raise DataError(
            f"protocol {protocol}: expected {said}; got {gallery.size} sequences for the gallery "
            f"and {sum(rows.size for rows in probes.values())} probes. Sequences there: "
            f"{one_line(seen)}"
        )
    if averaged == BY_PAIR and len(set(walks.views_deg.tolist())) < 2:
        raise DataError(
            f"protocol {protocol} excludes identical views: expected 2 views at least, got 1. Use "
            "--protocol gait3d"
        )
    drop = protocol == "gait3d" if drop_unmated is None else drop_unmated
    kept = {name: rows for name, rows in probes.items() if rows.size}
    return Trials(protocol, gallery, kept, averaged, drop, said)


def _sides(
    walks: Walks, protocol: str, probe: Bools | None
) -> tuple[Indices, dict[str, Indices], str, str]:
    """Return gallery, probes by condition, how they are averaged, and both in words."""
    own = choose(walks.sequences.tolist())
    if protocol == "casia-b":
        return (*_named(walks, GALLERY, PROBES), BY_PAIR, "gallery nm-01..04, probes nm, bg, cl")
    if protocol == "ou-mvlp":
        return (*_named(walks, OU_GALLERY, OU_PROBES), BY_PAIR, "gallery 01, probes 00")
    if protocol == "cross-view-gallery" and own == "ou-mvlp":
        return (*_named(walks, OU_GALLERY, OU_PROBES), BY_PROBE, "gallery 01 of all views")
    if protocol == "cross-view-gallery":
        said = "gallery nm-02, bg-02, cl-02 of all views, probes nm-01, bg-01, cl-01"
        return (*_named(walks, CROSS_GALLERY, CROSS_PROBES), BY_PROBE, said)
    if protocol == "open-set" and probe is None and own != "gait3d":
        gallery, by_condition, _, said = _sides(walks, own, None)
        together = np.concatenate(list(by_condition.values()))
        return gallery, {"all": np.sort(together)}, WHOLE, said
    mask = first_of_each(walks) if probe is None else probe
    said = "the listed probes, all others in the gallery"
    if probe is None:
        said = "each person's first sequence as probe, all others in the gallery"
    return np.flatnonzero(~mask), {"all": np.flatnonzero(mask)}, WHOLE, said


def first_of_each(walks: Walks) -> Bools:
    """Return which sequence is its person's first, by name and then by view: [m]."""
    order = np.lexsort((walks.views_deg, walks.sequences, walks.people))
    _, starts = np.unique(walks.people[order], return_index=True)
    mask = np.zeros(len(order), np.bool_)
    mask[order[starts]] = True
    return mask


def _named(
    walks: Walks, gallery: Sequence[str], probes: Mapping[str, Sequence[str]]
) -> tuple[Indices, dict[str, Indices]]:
    by_condition = {
        name: np.flatnonzero(np.isin(walks.sequences, list(names)))
        for name, names in probes.items()
    }
    return np.flatnonzero(np.isin(walks.sequences, list(gallery))), by_condition
