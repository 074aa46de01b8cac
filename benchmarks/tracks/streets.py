"""Streets of the ruler: kinds of scenes by name, each with people of its own for every seed."""

from __future__ import annotations

from dataclasses import dataclass, field

from cstl_edge.live.sources.synthetic.cast import Habits
from cstl_edge.live.sources.synthetic.source import SyntheticSource

TUNING_SEEDS = tuple(range(12))
FINAL_SEEDS = tuple(range(300, 312))  # for the figures: nothing is chosen by them


@dataclass(frozen=True)
class StreetKind:
    """Kind of a street: how many people, what they do, what stands before them."""

    people: int
    habits: Habits = field(default_factory=Habits)
    poles: int = 0


KINDS = {
    "4": StreetKind(4),
    "8": StreetKind(8),
    "12": StreetKind(12),
    "dense": StreetKind(8, Habits(dense=True)),
    "turning": StreetKind(8, Habits(turning=True)),
    "standing": StreetKind(8, Habits(standing=True)),
    "carrying": StreetKind(8, Habits(carrying=True)),
    "poles": StreetKind(8, poles=3),
}


def open_street(kind: str, seed: int) -> SyntheticSource:
    """Open a street; the same seed gives other people and another street for another kind."""
    chosen = KINDS[kind]
    return SyntheticSource(
        chosen.people,
        seed=1000 * list(KINDS).index(kind) + seed,
        habits=chosen.habits,
        poles=chosen.poles,
        uri=f"street {kind}, seed {seed}",
    )
