"""One street seen by four cameras: people walk from one to the next, over and over.

    synthetic://street?side=0&people=8&seed=1&fps=10&live=1

Everybody passes the four sides in turn, in the same clothes and from another direction at each,
with some seconds out of sight between two. All sides of one seed show the same people at the same
time; live ones begin again after `period_s` and stay together by the machine's clock, whichever
process shows them. With `gate=1`, which all sides of a street share, side 0 is a gate: everybody
walks up to it and back. In the truth, `WalkerTruth.spec.person_seed` says who it is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Event

import numpy as np

from cstl_edge.arrays import Image
from cstl_edge.errors import ConfigError
from cstl_edge.live.sources.stream import Capture
from cstl_edge.live.sources.synthetic.actor import Actor, WalkerSpec
from cstl_edge.live.sources.synthetic.cast import DISTANCES_M, EMPTY_S, FIRST_SEED, TURNED_DEG
from cstl_edge.live.sources.synthetic.scene import PinholeCamera, empty_street
from cstl_edge.live.sources.synthetic.source import SyntheticSource

SIDES = 4
PEOPLE = 8
ENTRANCES_S = (3.0, 6.0)  # between the first entrance of one and that of the next
HIDDEN_S = (4.0, 15.0)  # out of sight between two sides
TURNS_AT = (0.6, 0.8)  # share of the way after which they turn back at the gate
LAST_S = 3.0  # of the empty street before everything begins again
PLAN_FPS, PLAN_SIZE = 10.0, (360, 640)  # by which the times are planned
SIDE_SEED = 7919  # between the seeds of two sides' pictures


@dataclass(frozen=True)
class SidesPlan:
    """Who passes which side when."""

    walks: tuple[tuple[WalkerSpec, ...], ...]  # by side
    period_s: float  # after which everything begins again


@lru_cache(maxsize=4)
def plan_sides(people: int, seed: int, gate: bool = False) -> SidesPlan:
    """Plan the walks of so many people past all sides.

    Args:
        people: Number of people.
        seed: Of people and times.
        gate: Whether they turn back at side 0.
    """
    rng = np.random.default_rng([seed, 11, people])
    turns = np.random.default_rng([seed, 13, people])
    camera, backdrop = PinholeCamera(PLAN_SIZE), empty_street(PinholeCamera(PLAN_SIZE), seed)
    walks: list[list[WalkerSpec]] = [[] for _ in range(SIDES)]
    start_s = last_s = EMPTY_S
    for number in range(people):
        person = WalkerSpec(
            person_seed=FIRST_SEED + int(rng.integers(FIRST_SEED)),
            condition="bg" if number % 3 == 1 else "nm",
            session=int(rng.integers(FIRST_SEED)),
            distance_m=float(rng.uniform(*DISTANCES_M)),
        )
        first, next_s = int(rng.integers(SIDES)), start_s
        for step in range(SIDES):
            across = float(rng.choice((90.0, 270.0)) + rng.uniform(-TURNED_DEG, TURNED_DEG))
            walk = replace(person, view_deg=across, start_s=next_s)
            side = (first + step) % SIDES
            if gate and side == 0:
                walk = replace(walk, turns_at=float(turns.uniform(*TURNS_AT)))
            walks[side].append(walk)
            left_s = next_s + Actor(walk, camera, PLAN_FPS, backdrop).frames / PLAN_FPS
            last_s = max(last_s, left_s)
            next_s = left_s + float(rng.uniform(*HIDDEN_S))
        start_s += float(rng.uniform(*ENTRANCES_S))
    return SidesPlan(tuple(map(tuple, walks)), last_s + LAST_S)


def side_of_street(
    side: int,
    people: int = PEOPLE,
    *,
    seed: int = 0,
    fps: float = PLAN_FPS,
    size: tuple[int, int] = PLAN_SIZE,
    poles: int = 0,
    gate: bool = False,
    start_s: float | None = None,
    stop_s: float | None = None,
    uri: str | None = None,
) -> SyntheticSource:
    """Return one side of a street, as a recording of one period.

    Args:
        side: 0 to 3.
        people: Number of people who walk about.
        seed: Of people, times and pictures.
        fps: Frames per second.
        size: Height, width in pixels.
        poles: Lamp posts between the camera and the walkers.
        gate: Whether people turn back at side 0.
        start_s: Start of the part that is read [s].
        stop_s: End of that part [s].
        uri: Address, for messages.

    Raises:
        ConfigError: There is no such side, or a value is out of range.
    """
    if not 0 <= side < SIDES:
        raise ConfigError(f"expected a side from 0 to {SIDES - 1}, got {side}")
    plan = plan_sides(people, seed, gate)
    return SyntheticSource(
        plan.walks[side],
        seed=seed + side * SIDE_SEED,
        fps=fps,
        seconds=plan.period_s,
        size=size,
        start_s=start_s,
        stop_s=stop_s,
        poles=poles,
        wardrobe=empty_street(PinholeCamera(size), seed),
        uri=uri or f"synthetic://street?side={side}&people={people}&seed={seed}&gate={int(gate)}",
    )


class LoopingCamera(Capture):
    """Capture that shows a recording over and over, in step with the machine's clock."""

    def __init__(self, street: SyntheticSource) -> None:
        self.fps = street.fps
        self._street, self._stopped = street, Event()
        self._total = max(1, street.frames or 1)
        self._last = -1  # number of the last picture since 1970

    def read(self) -> Image | None:
        """Wait until the next picture is due; pictures whose time has passed are left out."""
        number = max(self._last + 1, int(time.time() * self.fps))
        if self._stopped.wait(max(0.0, number / self.fps - time.time())):
            return None
        self._last = number
        return self._street.image(number % self._total)

    def stop(self) -> None:
        """Wake a waiting `read`."""
        self._stopped.set()
