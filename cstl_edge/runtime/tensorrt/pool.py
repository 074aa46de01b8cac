"""Sessions of all threads on the same engines, opened anew when the GPU failed.

Run on stand-ins so far, not on a device.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from cstl_edge.errors import BackendUnavailable, ModelError
from cstl_edge.runtime.cuda.base import Buffers, CudaError
from cstl_edge.runtime.tensorrt.engine import Engine
from cstl_edge.runtime.tensorrt.session import Session

log = logging.getLogger(__name__)
Worked = TypeVar("Worked")

Engines = dict[str, Engine]
"""Open engines by graph."""


class SessionPool:
    """A session for each thread that comes."""

    def __init__(
        self,
        open_buffers: Callable[[], Buffers],
        deserialise: Callable[[], Engines],
        most_slots: int | None = None,
    ) -> None:
        """Open the engines and a session for this thread; others get one at their first call.

        Args:
            open_buffers: Function that opens a stream and memory for the calling thread.
            deserialise: Function that opens the engines, called again after the GPU failed.
            most_slots: Shapes that a session keeps ready at once; by default all.
        """
        self._open_buffers, self._deserialise = open_buffers, deserialise
        self._most_slots = most_slots
        self._local, self._lock = threading.local(), threading.Lock()
        self._engines: Engines | None = None
        self._sessions: list[Session] = []
        self._session()

    def retried(self, work: Callable[[Session], Worked], /) -> Worked:
        """Do something in this thread's session; when the GPU fails, once more in a new one.

        Raises BackendUnavailable when it fails again: then the process has to be started anew.
        """
        try:
            return work(self._session())
        except CudaError as err:
            log.warning("the GPU failed (%s): its engines are opened once more", err)
        try:
            self._drop_session()
            return work(self._session())
        except ModelError as err:
            raise BackendUnavailable(
                f"the GPU failed and does not come back: {err}. Start the process again; when it "
                "is out of memory, close what else uses it"
            ) from err

    def close(self) -> None:
        """Give back what every thread holds."""
        with self._lock:
            for session in self._sessions:
                session.close()
            self._sessions.clear()
            for engine in (self._engines or {}).values():
                engine.close()
            self._engines = None

    def _session(self) -> Session:
        """Return this thread's session."""
        session: Session | None = getattr(self._local, "session", None)
        if session is not None:
            return session
        buffers = self._open_buffers()  # first, for TensorRT works in the context that is current
        try:
            with self._lock:
                if self._engines is None:
                    self._engines = self._deserialise()
                session = Session(buffers, self._engines, self._most_slots)
                self._sessions.append(session)
        except BaseException:
            buffers.close()
            raise
        self._local.session = session
        return session

    def _drop_session(self) -> None:
        """Close this thread's session; its engines are opened anew by whoever comes next."""
        failed: Session | None = self._local.__dict__.pop("session", None)
        if failed is None:
            return
        with self._lock:
            self._sessions.remove(failed)
            if self._engines is failed.engines:
                self._engines = None  # other threads keep them until they fail too
        failed.close()
