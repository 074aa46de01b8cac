"""Check of the pages and indexes of a large file, in the background of its use."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

from cstl_edge.errors import GalleryError
from cstl_edge.gallery import database


class BackgroundCheck:
    """Compares all pages of a file with each other on a connection and a thread of its own."""

    def __init__(self, path: Path) -> None:
        """Begin."""
        self._path = path
        self._fault: GalleryError | None = None
        self._connection: sqlite3.Connection | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gallery check", daemon=True)
        self._thread.start()

    def raise_fault(self) -> None:
        """Raise GalleryError when damage was found."""
        if self._fault is not None:
            raise self._fault

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for the end of the check."""
        self._thread.join(timeout_s)

    def stop(self) -> None:
        """End the check, finished or not."""
        self._stopped.set()
        while self._thread.is_alive():
            if self._connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.interrupt()
            self._thread.join(0.05)

    def _run(self) -> None:
        try:
            with database.explained_errors(self._path):
                self._connection = database.open_read_only(self._path)
                with contextlib.closing(self._connection):
                    if not self._stopped.is_set():
                        database.check_integrity(self._connection)
        except GalleryError as err:
            if not self._stopped.is_set():
                self._fault = err
