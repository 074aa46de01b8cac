"""Links between processes: a pipe with a reading and a writing thread, whose ends can be sent on.

The supervisor makes a pair of ends for two children and sends each its own, as a descriptor behind
an `Attach` on their control links. A child that dies takes its ends with it: the peer reads the end
of the stream, and the next life gets a new pair, so no half message is ever read.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle

from cstl_edge.serve.messages import Attach, Message
from cstl_edge.serve.outbound import Outbound

log = logging.getLogger(__name__)

OnMessage = Callable[[str, Message], None]
OnEnd = Callable[[str], None]
GONE = (EOFError, OSError)


class Link:
    """One end of a pipe to a peer."""

    def __init__(
        self, peer: str, connection: Connection, on_message: OnMessage, on_end: OnEnd
    ) -> None:
        """Take over a connection; `start` begins to read and write.

        Args:
            peer: Name of the process at the other end.
            connection: This end; the link's to close.
            on_message: Called with peer and message by the reading thread; must not block long.
            on_end: Called once with the peer when the other end is gone.
        """
        self.peer = peer
        self.outbound = Outbound()
        self._connection, self._on_message, self._on_end = connection, on_message, on_end
        self._ends: dict[int, Connection] = {}  # to be sent behind their `Attach`, by its id
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write, name=f"to {peer}", daemon=True)
        self._reader = threading.Thread(target=self._read, name=f"from {peer}", daemon=True)

    def start(self) -> Link:
        """Begin to read and write."""
        self._writer.start()
        self._reader.start()
        return self

    def send(self, message: Message) -> bool:
        """Hand over a message, without waiting; False where the peer is gone."""
        return not self._closing.is_set() and self.outbound.put(message)

    def attach(self, peer: str, end: Connection) -> None:
        """Send the end of a pipe to a peer; this process's copy is closed."""
        message = Attach(peer)
        self._ends[id(message)] = end
        if not self.send(message):
            self._ends.pop(id(message)).close()

    @property
    def ended(self) -> bool:
        """Whether the pipe is closed."""
        return self._closing.is_set()

    def close(self, flush_s: float = 0.0) -> None:
        """Write what waits, within some seconds, and close; a second call does nothing."""
        self.outbound.close()
        if flush_s:
            self._writer.join(flush_s)
        self._shut()

    def _shut(self) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        self.outbound.close()
        with contextlib.suppress(OSError):  # wakes a thread that reads or writes
            _shutdown(self._connection)
        for end in list(self._ends.values()):
            end.close()

    def _write(self) -> None:
        try:
            while not self.outbound.closed and not self._closing.is_set():
                message = self.outbound.take(timeout_s=5.0)
                if message is None:
                    continue
                self._connection.send(message)
                end = self._ends.pop(id(message), None)
                if end is not None:
                    send_handle(self._connection, end.fileno(), os.getpid())
                    end.close()
        except GONE:
            self._shut()

    def _read(self) -> None:
        try:
            while not self._closing.is_set():
                message = self._connection.recv()
                self._on_message(self.peer, message)
        except GONE:
            pass
        except (pickle.UnpicklingError, AttributeError, TypeError) as err:
            log.error("%s sent something that is no message: %s", self.peer, err)
        finally:
            self._shut()
            self._writer.join(1.0)
            with contextlib.suppress(OSError):
                self._connection.close()
            self._on_end(self.peer)

    def receive_end(self) -> Connection:
        """Return the end that follows an `Attach`; in `on_message` alone, the reading thread."""
        return Connection(recv_handle(self._connection))


def pair() -> tuple[Connection, Connection]:
    """Return two ends of a new pipe."""
    first, second = Pipe(duplex=True)
    return first, second


def _shutdown(connection: Connection) -> None:
    """End both directions of a connection, also under a thread that waits in it."""
    import socket

    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)
