"""Live pictures for everybody who looks: one hub asks the workers, each viewer gets the newest.

A viewer never has more than one picture of a camera waiting: what it did not take is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping

from cstl_edge.serve.context import FrontContext
from cstl_edge.serve.messages import LivePicture, Overlay

RENEW_S = 3.0  # a worker stops after 10 s without being asked again
View = tuple[str, Overlay]
"""A camera and how it is drawn."""


class Viewer:
    """Somebody who looks at some cameras: the newest picture of each, and a bell."""

    def __init__(self, hub: PictureHub) -> None:
        self._hub = hub
        self.views: dict[str, Overlay] = {}
        self.fps = 0.0
        self.newest: dict[str, LivePicture] = {}
        self.bell = asyncio.Event()

    def look_at(self, views: Mapping[str, Overlay], fps: float) -> None:
        """Choose cameras, and pictures per second of each; none ends it."""
        before = set(self.views.items())
        self.views, self.fps = dict(views), fps
        self.newest = {camera: p for camera, p in self.newest.items() if camera in views}
        for camera, overlay in self.views.items():
            picture = self._hub.context.latest_picture(camera, overlay)
            if picture is not None and camera not in self.newest:
                self.offer(picture)
        self._hub.renew(before - set(self.views.items()))

    def offer(self, picture: LivePicture) -> None:
        """Take a picture in place of the one that still waits."""
        if self.views.get(picture.camera) == picture.overlay:
            self.newest[picture.camera] = picture
            self.bell.set()


class PictureHub:
    """Asks workers for what is looked at, and hands their pictures on."""

    def __init__(self, context: FrontContext) -> None:
        """Begin to listen; `run` has to run beside."""
        self.context = context
        self.viewers: set[Viewer] = set()
        self.pictures = 0  # that were handed to the network
        self.dropped_viewers = 0  # that stopped reading
        self._unsubscribe = context.on_picture(self._on_picture)

    def close(self) -> None:
        """Stop listening."""
        self._unsubscribe()

    @contextlib.contextmanager
    def viewer(self) -> Iterator[Viewer]:
        """Give a viewer, who looks away at the end of the block."""
        viewer = Viewer(self)
        self.viewers.add(viewer)
        try:
            yield viewer
        finally:
            self.viewers.discard(viewer)
            self.renew(set(viewer.views.items()))

    def renew(self, ended: set[View] | frozenset[View] = frozenset()) -> None:
        """Ask for what is looked at.

        ended: what somebody no longer looks at: stopped where nobody else does
        """
        wanted: dict[View, float] = {}
        for viewer in self.viewers:
            for view in viewer.views.items():
                wanted[view] = max(wanted.get(view, 0.0), viewer.fps)
        for camera, overlay in ended - set(wanted):
            self.context.watch(camera, 0.0, overlay)
        for (camera, overlay), fps in wanted.items():
            self.context.watch(camera, fps, overlay)

    async def run(self) -> None:
        """Ask again before the workers stop, until it is cancelled."""
        while True:
            await asyncio.sleep(RENEW_S)
            self.renew()

    def _on_picture(self, picture: LivePicture) -> None:
        for viewer in self.viewers:
            viewer.offer(picture)
