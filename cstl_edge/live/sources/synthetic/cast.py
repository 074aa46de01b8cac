"""Cast of a synthetic street: strangers, their ways, what they carry, and when they enter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cstl_edge.live.sources.synthetic.actor import WalkerSpec

FIRST_SEED = 1_000_000  # people of the street; below it are those of training and evaluation
EMPTY_S = 1.0  # of the street before the first and after the last walker
ENTRANCES_S = (2.0, 4.0)  # between one walker and the next
DENSE_ENTRANCES_S = (0.3, 1.0)
TURNED_DEG = 30.0  # at most, from walking straight across
DISTANCES_M = (5.8, 9.0)
TURNS_AT, STANDS_AT = (0.35, 0.75), (0.3, 0.7)  # shares of the way
STANDS_S = (2.0, 5.0)


@dataclass(frozen=True)
class Habits:
    """What the strangers of a street do."""

    dense: bool = False  # all enter within seconds
    turning: bool = False  # every second one turns back on the way
    standing: bool = False  # every second one stands still on the way
    carrying: bool = False  # everybody has a bag, not every third one


def street_walkers(count: int, seed: int, habits: Habits | None = None) -> list[WalkerSpec]:
    """Draw strangers who cross the street: other ones for another count.

    Args:
        count: Number of strangers; every third one has a bag.
        seed: Seed of the street.
        habits: What they do beside crossing.
    """
    habits = habits or Habits()
    rng, extra = np.random.default_rng([seed, 3, count]), np.random.default_rng([seed, 5, count])
    people = [
        WalkerSpec(
            person_seed=FIRST_SEED + int(rng.integers(FIRST_SEED)),
            condition="bg" if i % 3 == 1 or habits.carrying else "nm",
            session=int(rng.integers(FIRST_SEED)),
            view_deg=float(rng.choice((90.0, 270.0)) + rng.uniform(-TURNED_DEG, TURNED_DEG)),
            distance_m=float(rng.uniform(*DISTANCES_M)),
        )
        for i in range(count)
    ]
    if habits.turning:
        people[::2] = [replace(p, turns_at=float(extra.uniform(*TURNS_AT))) for p in people[::2]]
    if habits.standing:
        stops = [
            (float(extra.uniform(*STANDS_AT)), float(extra.uniform(*STANDS_S))) for _ in people
        ]
        people[1::2] = [
            replace(person, stands_at=share, stands_s=seconds)
            for person, (share, seconds) in zip(people[1::2], stops, strict=False)
        ]
    return scheduled(people, seed, DENSE_ENTRANCES_S) if habits.dense else people


def scheduled(
    people: Sequence[WalkerSpec], seed: int, gaps_s: tuple[float, float] = ENTRANCES_S
) -> list[WalkerSpec]:
    """Return the walkers with an entrance each; those without one enter some seconds apart.

    Args:
        people: Walkers of the street.
        seed: Seed of the street.
        gaps_s: Least and most seconds from one entrance to the next.
    """
    rng = np.random.default_rng([seed, 4])
    next_s, cast = EMPTY_S, []
    for spec in people:
        if spec.start_s is None:
            spec = replace(spec, start_s=next_s)
            next_s += float(rng.uniform(*gaps_s))
        cast.append(spec)
    return cast
