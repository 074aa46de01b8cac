"""When a process that died is started again: after growing delays, and not for ever."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

DELAYS_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # after the first, second … death in a row
MAX_DEATHS, WITHIN_S = 5, 600.0  # so many in this time leave it off


@dataclass
class RestartPolicy:
    """Deaths of one process, and what follows from them."""

    clock: Callable[[], float]  # monotonic [s]
    total: int = 0  # deaths since the service began
    _deaths: deque[float] = field(default_factory=deque)

    def died(self) -> float | None:
        """Count a death; return the seconds until the next start, None for never."""
        now = self.clock()
        self.total += 1
        self._deaths.append(now)
        while self._deaths[0] < now - WITHIN_S:
            self._deaths.popleft()
        if len(self._deaths) >= MAX_DEATHS:
            return None
        return DELAYS_S[len(self._deaths) - 1]

    def forgive(self) -> None:
        """Forget the deaths: somebody asked for a new start."""
        self._deaths.clear()

    @property
    def recent(self) -> int:
        """Deaths within the time that counts."""
        now = self.clock()
        return sum(death >= now - WITHIN_S for death in self._deaths)
