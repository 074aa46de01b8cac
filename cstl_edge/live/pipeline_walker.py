"""What is known about one walker: frames used and refused, windows, and the answer so far.

The policy: every embedding of the track asks the gallery again, with the windows of this track that
overlap by at most a half (the newest always among them); the gallery takes the mean over windows of
the distance to each person. So an answer settles while somebody walks, one bad window cannot turn
it, and the last one is the track's answer. After a merge with a neighbour everything starts afresh,
because the tracker may have taken one for the other.

Who walks to the right is mirrored before the network sees him. The outline from one side is the
mirror image of the outline from the other, so half of all views are enough to learn, and a person
enrolled walking to the left is known walking to the right. Who turns round starts a new window.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cstl_edge.live.gates import Reason
from cstl_edge.live.pipeline_vision import Seen
from cstl_edge.live.segment import Mask
from cstl_edge.runtime.streaming import StreamResult

if TYPE_CHECKING:
    from cstl_edge.gallery import Decision

MAX_WINDOWS = 8  # asked with at once, the newest
MAX_GAP_S = 0.5  # a longer hole in the walk starts a new window
PLAIN_HEADING = 0.15  # body heights per second: more leaves no doubt about the side
MAX_KEPT = 1500  # silhouettes kept for enrolment: a minute at 25 frames per second


@dataclass
class Walker:
    """One track, as the second half of the pipeline sees it."""

    id: int
    window: int
    keep: bool = False  # the silhouettes, for enrolment
    refused: Counter[str] = field(default_factory=Counter)
    usable: int = 0
    held: list[Mask] = field(default_factory=list)  # too early to tell whether this is a walk
    silhouettes: list[Mask] = field(default_factory=list)
    windows: list[StreamResult] = field(default_factory=list)
    decision: Decision | None = None
    reason: Reason | None = Reason.TOO_FEW  # of the newest frame; None while it walks
    told: tuple[str, float] | None = None  # reason and time of the last pending event
    last_used_s: float | None = None
    merged: bool = False
    mirrored: bool = False  # walks to the right

    def take(self, seen: Seen, time_s: float) -> tuple[list[Mask], bool]:
        """Take one frame; return the silhouettes to embed now, and whether the window is broken."""
        broken = self._breaks(seen, time_s) | self._turns(seen.heading)
        self.reason = seen.reason
        if seen.reason is None and seen.silhouette is not None:
            fresh = [*self.held, seen.silhouette]
            if self.mirrored:
                fresh = [np.ascontiguousarray(silhouette[:, ::-1]) for silhouette in fresh]
            self.held = []
            self.usable += len(fresh)
            self.last_used_s = time_s
            if self.keep:
                self.silhouettes = (self.silhouettes + fresh)[:MAX_KEPT]
            return fresh, broken
        if seen.reason is Reason.TOO_FEW and seen.silhouette is not None:
            self.held.append(seen.silhouette)
        elif seen.reason is not None:
            self.refused[seen.reason.value] += 1 + len(self.held)
            self.held = []
        return [], broken

    def _breaks(self, seen: Seen, time_s: float) -> bool:
        """Tell whether what follows must not share a window with what came before."""
        merged, self.merged = self.merged, seen.reason is Reason.MERGED
        if self.merged and not merged:
            # whoever leaves the merge may be the other one: no answer from both
            self.windows, self.decision, self.silhouettes = [], None, []
            self.last_used_s, self.usable = None, 0
            return True
        if self.last_used_s is None or time_s - self.last_used_s <= MAX_GAP_S:
            return False
        self.last_used_s = None
        return True

    def _turns(self, heading: float | None) -> bool:
        """Follow the side to which the walk goes; tell whether it has changed on the way."""
        if heading is None or abs(heading) < PLAIN_HEADING or (heading > 0) == self.mirrored:
            return False
        self.mirrored = heading > 0
        return self.usable > 0

    def add_window(self, result: StreamResult) -> None:
        """Take what the network says of the newest window."""
        if len(self.windows) > 1:
            since = result.frames_seen - self.windows[-2].frames_seen
            if 0 < since < self.window // 2:
                self.windows.pop()
        self.windows = [*self.windows, result][-MAX_WINDOWS:]

    def embeddings(self) -> npt.NDArray[np.float32]:
        """Return the windows [k, p, d]."""
        return np.stack([result.embedding for result in self.windows])

    def forget_held(self) -> None:
        """Count the frames that never became a walk, when the track ends."""
        self.refused[Reason.TOO_FEW.value] += len(self.held)
        self.held = []

    def no_answer(self) -> str:
        """Return the one reason why this track has no answer."""
        counts = self.refused.most_common()
        if self.usable or not counts or not counts[0][1]:
            return Reason.TOO_FEW.value
        return counts[0][0]

    def account(self, needed: int) -> str:
        """Return what became of its frames, for a person."""
        refused = [f"{count} {why}" for why, count in self.refused.most_common() if count]
        text = f"{self.usable} usable frames, need {needed}"
        return f"{text}; refused: {', '.join(refused)}" if refused else text
