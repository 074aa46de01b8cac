"""Ring of a camera's newest pictures, from which videos of visits are cut."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from cstl_edge.arrays import Image
from cstl_edge.errors import CstlEdgeError
from cstl_edge.live.video.browser import browser_encoder, write_clip
from cstl_edge.serve.messages import Clip, ClipRequest
from cstl_edge.serve.pictures import jpeg_of, scaled

MAX_WIDTH = 960  # of a clip [pixels]
MAX_BYTES = 256 * 2**20  # of a ring
MAX_REQUESTS = 8  # that wait
MOST_FPS = 15.0
SLACK_S = 25.0  # kept beyond a clip: a visit that ends before it is full ends up to 20 s later


class ClipRing:
    """Newest pictures, and the thread that makes videos of them."""

    def __init__(self, seconds: float, spool: Path, send: Callable[[Clip], object]) -> None:
        """Begin.

        Args:
            seconds: Length of the ring; 0 keeps nothing.
            spool: Folder of the videos.
            send: Called with each video, by the thread.
        """
        self._keep = timedelta(seconds=seconds + SLACK_S) if seconds else None
        self._spool, self._send = spool, send
        self._pictures: deque[tuple[datetime, bytes, tuple[int, int]]] = deque()
        self._bytes = 0
        self._waiting: deque[ClipRequest] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="clips", daemon=True)
        if seconds:
            self._thread.start()

    def add(self, image: Image, utc: datetime) -> None:
        """Keep a picture."""
        if self._keep is None:
            return
        if self._pictures and (utc - self._pictures[-1][0]).total_seconds() < 0.75 / MOST_FPS:
            return
        small, _ = scaled(image, MAX_WIDTH)
        jpeg = jpeg_of(small)
        with self._changed:
            self._pictures.append((utc, jpeg, (small.shape[0], small.shape[1])))
            self._bytes += len(jpeg)
            while utc - self._pictures[0][0] > self._keep or self._bytes > MAX_BYTES:
                self._bytes -= len(self._pictures.popleft()[1])

    def request(self, request: ClipRequest) -> None:
        """Make a video soon; too many at once are refused."""
        reason = "clips are not kept" if self._keep is None else "too many clips at once"
        with self._changed:
            if self._keep is not None and len(self._waiting) < MAX_REQUESTS:
                self._waiting.append(request)
                self._changed.notify()
                return
        self._send(Clip(request.camera, request.id, None, reason=reason))

    def close(self) -> None:
        """Make no more videos."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                request = self._waiting.popleft()
                wanted = [
                    picture
                    for picture in self._pictures
                    if request.start_utc <= picture[0] <= request.end_utc
                ]
            self._send(self._made(request, wanted))

    def _made(
        self, request: ClipRequest, pictures: list[tuple[datetime, bytes, tuple[int, int]]]
    ) -> Clip:
        """Return the video of a request; what goes wrong is its reason."""
        pictures = [p for p in pictures if p[2] == pictures[-1][2]]  # of the newest size
        if len(pictures) < 2:
            return Clip(request.camera, request.id, None, reason="the pictures are gone")
        seconds = (pictures[-1][0] - pictures[0][0]).total_seconds()
        encoder = browser_encoder()
        path = self._spool / f"{request.id}{encoder.suffix}"
        try:
            fps = (len(pictures) - 1) / max(seconds, 1e-3)
            write_clip([jpeg for _, jpeg, _ in pictures], fps, path, encoder)
        except CstlEdgeError as err:
            return Clip(request.camera, request.id, None, reason=str(err))
        return Clip(request.camera, request.id, str(path), encoder.media_type, seconds)
