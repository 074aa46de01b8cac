"""Messages that wait for a pipe: bounded, so that a peer that does not read never holds us up.

Of what shows a state (pictures, labels, states) only the newest waits. Observations wait in a
short queue; of an older one that gives way, the tracks that begin and end are carried over.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable
from dataclasses import replace

from cstl_edge.serve.messages import Labels, LivePicture, Message, Observation, ServiceState, Watch

MAX_OBSERVATIONS = 40  # that wait: some seconds of a camera
MAX_WAITING = 2000  # of all other messages; a peer that reads none of so many is dead


class Outbound:
    """Queue of one direction of a pipe; any thread puts, one takes."""

    def __init__(self) -> None:
        self.dropped = 0  # observations and pictures that gave way
        self.dropped_observations = 0
        self._changed = threading.Condition()
        self._waiting: deque[Message] = deque()
        self._newest: dict[Hashable, Message] = {}
        self._observations = 0
        self._closed = False

    def put(self, message: Message) -> bool:
        """Add a message; False where it is closed or full of what must not be dropped."""
        with self._changed:
            if self._closed:
                return False
            key = _newest_key(message)
            if key is not None:
                self.dropped += isinstance(self._newest.get(key), LivePicture)
                self._newest[key] = message
            else:
                if len(self._waiting) >= MAX_WAITING:
                    return False
                if isinstance(message, Observation):
                    message = self._make_room(message)
                self._waiting.append(message)
            self._changed.notify()
        return True

    def take(self, timeout_s: float | None = None) -> Message | None:
        """Wait for the next message; None after the time, or where it is closed and empty."""
        with self._changed:
            if not (self._waiting or self._newest or self._closed):
                self._changed.wait(timeout_s)
            if self._waiting:
                message = self._waiting.popleft()
                self._observations -= isinstance(message, Observation)
                return message
            if self._newest:
                return self._newest.pop(next(iter(self._newest)))
        return None

    def close(self) -> None:
        """Take no more messages; those that wait can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether no message comes any more."""
        with self._changed:
            return self._closed and not (self._waiting or self._newest)

    def __len__(self) -> int:
        with self._changed:
            return len(self._waiting) + len(self._newest)

    def _make_room(self, message: Observation) -> Observation:
        """Count an observation; drop the oldest where too many wait."""
        self._observations += 1
        if self._observations <= MAX_OBSERVATIONS:
            return message
        place = next(i for i, m in enumerate(self._waiting) if isinstance(m, Observation))
        oldest = self._waiting[place]
        assert isinstance(oldest, Observation)
        del self._waiting[place]
        self._observations -= 1
        self.dropped += 1
        self.dropped_observations += 1
        heir = next((i for i, m in enumerate(self._waiting) if isinstance(m, Observation)), None)
        if heir is None:
            return _carried(oldest, message)
        following = self._waiting[heir]
        assert isinstance(following, Observation)
        self._waiting[heir] = _carried(oldest, following)
        return message


def _newest_key(message: Message) -> Hashable | None:
    """Return what a newer message replaces, None for one that waits its turn."""
    if isinstance(message, LivePicture):
        return LivePicture, message.camera, message.overlay
    if isinstance(message, Watch):
        return Watch, message.camera, message.overlay
    if isinstance(message, Labels):
        return Labels, message.camera
    return ServiceState if isinstance(message, ServiceState) else None


def _carried(dropped: Observation, following: Observation) -> Observation:
    """Return the following observation with the births and ends of a dropped one."""
    if dropped.run != following.run or not (dropped.born or dropped.closed):
        return following
    return replace(
        following,
        born=(*dropped.born, *following.born),
        closed=(*dropped.closed, *following.closed),
    )
