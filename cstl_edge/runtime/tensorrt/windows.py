"""Windows of walkers in the GPU's memory: between `frames` and `head` nothing goes to the host.

A ring of part features [window, p, c] per walker; the newest frame is copied into it, and a due
window out of it into the head's input, oldest frame first, all within the GPU's memory. Letters as
in `base`. Run on stand-ins so far, not on a device.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, cast

import numpy as np

from cstl_edge.arrays import Silhouettes
from cstl_edge.errors import ModelError
from cstl_edge.measure.nvtx import nvtx_range
from cstl_edge.runtime.base import Embedded
from cstl_edge.runtime.graph_encoder import embedded
from cstl_edge.runtime.streaming.rings import Ring
from cstl_edge.runtime.tensorrt.session import Session, copied, fill

log = logging.getLogger(__name__)

Worked = TypeVar("Worked")


class Retried(Protocol):
    """Does something in the calling thread's session; once more in a new one when the GPU fails."""

    def __call__(self, work: Callable[[Session], Worked], /) -> Worked:
        """Return what `work` returns (BackendUnavailable where the GPU fails again)."""


class DeviceRing(Ring):
    """The ring of one walker, in a place of the GPU's memory."""

    def __init__(self, window: int, min_frames: int, place: int) -> None:
        """Begin without frames.

        Args:
            window: Number of frames of the ring.
            min_frames: Number of frames before the first embedding.
            place: Number of the ring in the memory.
        """
        super().__init__(window, min_frames)
        self.place, self._min_frames = place, min_frames
        self._lost = 0  # the value of `seen` when all that was held was lost

    @property
    def held(self) -> int:
        """Return the number of frames that the window holds."""
        return min(self.seen - self._lost, self.window)

    @property
    def oldest(self) -> int:
        """Return the slot of the ring in which the window begins."""
        return (self.seen - self.held) % self.window

    def lose(self) -> None:
        """Hold nothing any more: the walker begins anew."""
        self._lost = self.seen
        self.next_head_at = self.seen + self._min_frames


class DeviceWindows:
    """Rings of at most so many walkers, in the session of the calling thread."""

    def __init__(self, retried: Retried, window: int, walkers: int) -> None:
        """Take memory for all of them, so that no walker waits for it.

        Args:
            retried: Function that works in a thread's session.
            window: Number of frames of a window; ModelError for more than the engine takes.
            walkers: Number of walkers held at once.
        """
        self._retried, self._window, self._walkers = retried, window, walkers
        self._places = list(reversed(range(walkers)))
        self._rings: weakref.WeakSet[DeviceRing] = weakref.WeakSet()
        self._session: Session | None = None
        self._memory, self._row_bytes = 0, 0
        retried(self._enter)

    def ring(self, min_frames: int) -> Ring:
        """Return the ring of a new walker, who is embedded from `min_frames` frames on."""
        ring = DeviceRing(self._window, min_frames, self._places.pop())
        self._rings.add(ring)
        return ring

    def push(self, rings: Sequence[Ring], silhouettes: Silhouettes) -> None:
        """Run `frames` on one silhouette [m, h, w] of each walker and hold the features."""
        own = cast(Sequence[DeviceRing], rings)

        def work(session: Session) -> None:
            self._enter(session)
            for start, rows, slot, capture in session.pieces("frames", silhouettes.shape):
                fill(slot, {"silhouettes": silhouettes[start : start + rows]})
                slot.run(capture, staying=True)
                for i, ring in enumerate(own[start : start + rows]):
                    source = slot.device["features"] + i * self._row_bytes
                    target = self._at(ring, ring.seen % self._window)
                    session.buffers.copy(target, source, self._row_bytes)

        with nvtx_range("frames"):
            self._retried(work)
        for ring in own:
            ring.seen += 1

    def embed(self, rings: Sequence[Ring]) -> Embedded | None:
        """Run the windows through the head; None where the GPU failed and lost them."""
        own = cast(Sequence[DeviceRing], rings)

        def work(session: Session) -> Embedded | None:
            if not self._enter(session):
                return None
            outputs = []
            longest = max(ring.held for ring in own)
            shape = (len(own), longest, *self._feature(session))
            for start, rows, slot, capture in session.pieces("head", shape):
                some = own[start : start + rows]
                fill(slot, {"lengths": np.array([ring.held for ring in some], np.int32)})
                frames = slot.host["features"].shape[1]
                for i, ring in enumerate(some):
                    target = slot.device["features"] + i * frames * self._row_bytes
                    self._copy_window(session, ring, target, frames)
                outputs.append(copied(slot.run(capture, staying=True), rows))
            return embedded({k: np.concatenate([o[k] for o in outputs]) for k in outputs[0]})

        with nvtx_range("head"):
            return self._retried(work)

    def drop(self, ring: Ring) -> None:
        """Forget a walker; the place is the next one's."""
        self._places.append(cast(DeviceRing, ring).place)
        self._rings.discard(cast(DeviceRing, ring))

    def _enter(self, session: Session) -> bool:
        """Take memory of a session; False where it is another one, and what was held is lost."""
        if session is self._session:
            return True
        types = {g: session.engines[g].types["features"] for g in ("frames", "head")}
        if types["frames"] is not types["head"]:
            raise ModelError(f"expected features of one type between two engines; got {types}")
        if self._window > session.engines["head"].largest("features", 1):
            raise ModelError(
                f"expected windows within the profiles of the engine; got {self._window} frames. "
                "Build it again with --frames large enough"
            )
        self._row_bytes = int(np.prod(self._feature(session))) * np.dtype(types["head"]).itemsize
        nbytes = self._walkers * self._window * self._row_bytes
        self._memory = session.lend(nbytes)
        weakref.finalize(self, session.give_back, self._memory, nbytes)
        again, self._session = self._session is not None, session
        for ring in self._rings:
            ring.lose()
        if again and self._rings:
            log.warning("the windows of %d walkers were lost: they begin anew", len(self._rings))
        return False

    def _feature(self, session: Session) -> tuple[int, ...]:
        """Return the sizes p, c of a feature."""
        return session.engines["head"].record.profiles[0]["features"].max[2:]

    def _at(self, ring: DeviceRing, slot: int) -> int:
        """Return the pointer to a slot of a ring."""
        return self._memory + (ring.place * self._window + slot) * self._row_bytes

    def _copy_window(self, session: Session, ring: DeviceRing, target: int, frames: int) -> None:
        """Copy the frames held, oldest first, to the beginning of `target`; zeros behind them."""
        row, held = self._row_bytes, ring.held
        tail = min(held, self._window - ring.oldest)
        session.buffers.copy(target, self._at(ring, ring.oldest), tail * row)
        if held > tail:
            session.buffers.copy(target + tail * row, self._at(ring, 0), (held - tail) * row)
        if frames > held:
            session.buffers.zero(target + held * row, (frames - held) * row)
