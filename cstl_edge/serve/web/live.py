"""The one WebSocket of a page: pictures of all cameras, states and events.

To the browser: binary, a picture (two bytes: length of the JSON header; header; JPEG); text, JSON
with `kind` `state` or `event`. From it: `{"watch": {CAMERA: OVERLAY}, "fps": N}`, and
`{"ack": CAMERA}` for each picture that is drawn. At most one picture of a camera is on its way, so
nothing stale piles up in buffers; who acknowledges nothing for 5 s is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from collections import deque
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from cstl_edge.live.events import utc_text
from cstl_edge.serve.context import FrontContext
from cstl_edge.serve.messages import EventMessage, LivePicture, Overlay
from cstl_edge.serve.web.identity import Identity, identity_of
from cstl_edge.serve.web.pictures import PictureHub, Viewer
from cstl_edge.serve.web.problems import ProblemError
from cstl_edge.serve.web.rest.cameras import camera_views
from cstl_edge.serve.web.rest.models import CameraView
from cstl_edge.serve.web.rest.operations import Wire

PROTOCOL = "cstl-edge"
STALL_S = 5.0
TICK_S = 1.0
SESSION_EVERY_S = 20.0  # how soon a revoked session ends its pages
MAX_MESSAGES_PER_S = 100  # acknowledgements of a large wall
MAX_EVENTS = 200  # that wait for a slow page
STATES = TypeAdapter(tuple[CameraView, ...])


class WatchMessage(Wire):
    """What a page looks at."""

    watch: Annotated[dict[str, Overlay], Field(max_length=64)] | None = None
    fps: Annotated[float, Field(gt=0, le=30)] = 5.0
    ack: str | None = None


class StalledClient(Exception):
    """A client that stopped reading."""


class LiveConnection:
    """One page that looks."""

    def __init__(self, socket: WebSocket, context: FrontContext, viewer: Viewer) -> None:
        self.socket, self.context, self.viewer = socket, context, viewer
        self.identity = _identity(socket)
        self.on_way: dict[str, float] = {}  # camera -> when its picture was sent
        self.events: deque[EventMessage] = deque(maxlen=MAX_EVENTS)
        self._last_state = 0.0
        self._last_check = time.monotonic()

    async def run(self, hub: PictureHub) -> None:
        """Serve the page until it leaves, stalls, or the service ends."""
        unsubscribe = self.context.on_event(self._on_event)
        reader = asyncio.ensure_future(self._read())
        try:
            while not (reader.done() or self.context.stopping):
                await self._send_due(hub)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self.viewer.bell.wait(), TICK_S / 4)
                self.viewer.bell.clear()
            if reader.done():
                reader.result()
        finally:
            unsubscribe()
            reader.cancel()

    def _on_event(self, message: EventMessage) -> None:
        camera = message.event.get("camera")
        account = self.identity.account
        if self.identity.sees_all or (camera is not None and account.may_see(str(camera))):
            self.events.append(message)
            self.viewer.bell.set()

    async def _read(self) -> None:
        """Take what the page says; ProblemError for what does not fit."""
        count, since = 0, time.monotonic()
        while True:
            text = await self.socket.receive_text()
            if time.monotonic() - since > 1:
                count, since = 0, time.monotonic()
            count += 1
            if count > MAX_MESSAGES_PER_S:
                raise ProblemError(429, "too-many-messages", "Too many messages.")
            try:
                message = WatchMessage.model_validate_json(text)
            except ValidationError as err:
                raise ProblemError(422, "message", "The message does not fit.") from err
            if message.ack is not None:
                self.on_way.pop(message.ack, None)
                self.viewer.bell.set()
            if message.watch is not None:
                self._watch(message.watch, message.fps)

    def _watch(self, views: dict[str, Overlay], fps: float) -> None:
        site, account = self.context.site, self.identity.account
        seen = {c: o for c, o in views.items() if c in site.cameras and account.may_see(c)}
        self.viewer.look_at(seen, min(fps, site.page.max_fps))
        self.on_way = {camera: at for camera, at in self.on_way.items() if camera in seen}

    async def _send_due(self, hub: PictureHub) -> None:
        """Send what is new: events, states once a second, pictures that may go."""
        now = time.monotonic()
        if any(now - at > STALL_S for at in self.on_way.values()):
            raise StalledClient
        while self.events:
            message = self.events.popleft()
            event = {"kind": "event", "id": message.rowid, "event": dict(message.event)}
            await self._send_text(event)
        if now - self._last_state >= TICK_S:
            self._last_state = now
            views = camera_views(self.context, self.identity.account)
            await self._send_text({"kind": "state", "cameras": STATES.dump_python(views)})
        if now - self._last_check >= SESSION_EVERY_S:
            self._last_check = now
            self._check_session()
        for camera in [c for c in self.viewer.newest if c not in self.on_way]:
            picture = self.viewer.newest.pop(camera)
            self.on_way[camera] = now
            await self._send(self.socket.send_bytes(frame(picture)))
            hub.pictures += 1

    def _check_session(self) -> None:
        """Notice that a session was revoked, or its user removed (ProblemError)."""
        door = self.socket.scope["cstl_edge.door"]
        if not door.still_valid(self.socket, self.identity):
            raise ProblemError(401, "login-needed", "The session has ended.")

    async def _send_text(self, value: dict[str, Any]) -> None:
        await self._send(self.socket.send_text(json.dumps(value, ensure_ascii=False)))

    async def _send(self, sending: Any) -> None:
        """Await a send; StalledClient where the network takes nothing for 5 s."""
        try:
            await asyncio.wait_for(sending, STALL_S)
        except asyncio.TimeoutError as err:
            raise StalledClient from err


def frame(picture: LivePicture) -> bytes:
    """Return a picture as it goes through the WebSocket."""
    header = {
        "camera": picture.camera,
        "sequence": picture.sequence,
        "utc": utc_text(picture.utc),
        "overlay": picture.overlay,
    }
    text = json.dumps(header).encode()
    return struct.pack(">H", len(text)) + text + picture.jpeg


async def live_socket(socket: WebSocket) -> None:
    """Serve `/live`, the one WebSocket of a page."""
    hub: PictureHub = socket.app.state.hub
    context: FrontContext = socket.app.state.context
    if len(hub.viewers) >= context.site.page.max_viewers:
        problem = ProblemError(503, "busy", "Too many live pages; page.max_viewers sets the limit.")
        await problem.respond(socket.scope, socket.receive, socket.send)
        return
    offered = socket.scope["subprotocols"]
    await socket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
    with hub.viewer() as viewer:
        try:
            await LiveConnection(socket, context, viewer).run(hub)
        except (WebSocketDisconnect, RuntimeError):  # it left; sends to it fail
            return
        except StalledClient:
            hub.dropped_viewers += 1
            socket.app.state.drop(socket.scope)
            return
        except ProblemError as problem:
            await _close(socket, 4000 + problem.status, problem.title)
            return
    await _close(socket, 1012, "The service ends.")


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    with contextlib.suppress(Exception):  # it may have gone
        await asyncio.wait_for(socket.close(code, reason), 1.0)


def _identity(socket: WebSocket) -> Identity:
    identity = identity_of(socket)
    if identity is None:
        raise ProblemError(401, "login-needed", "Log in first.")
    return identity
