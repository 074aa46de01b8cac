"""REST of cameras: their states, a picture, a stream of pictures (MJPEG)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from starlette.responses import Response, StreamingResponse

from cstl_edge.live.events import utc_text
from cstl_edge.serve.context import FrontContext
from cstl_edge.serve.messages import LivePicture, camera_process
from cstl_edge.serve.web.accounts import Account
from cstl_edge.serve.web.pictures import PictureHub
from cstl_edge.serve.web.problems import ProblemError
from cstl_edge.serve.web.rest.models import CameraView, PictureQuery, PicturesQuery
from cstl_edge.serve.web.rest.operations import PREFIX, Call, Operation

BOUNDARY = "cstl-edge-picture"
PICTURE_WAIT_S = 5.0  # for the first one; the camera may not be drawn yet
STALL_S = 5.0


def camera_views(context: FrontContext, account: Account) -> tuple[CameraView, ...]:
    """Return the cameras that a user may see, in the site's order."""
    state, stats = context.state(), context.stats()
    processes = {process.name: process for process in state.processes}
    views = []
    for name, camera in context.site.cameras.items():
        if not account.may_see(name):
            continue
        told = state.cameras.get(name)
        process = processes.get(camera_process(name))
        figures = stats[camera_process(name)].values if camera_process(name) in stats else {}
        off = process is not None and process.state == "off"
        reason = told.reason if told else None
        views.append(
            CameraView(
                name=name,
                title=context.site.camera_title(name),
                state="off" if off or not camera.enabled else (told.state if told else "starting"),
                reason_code=told.reason_code if told else None,
                reason=process.reason if off and process else reason,
                since_utc=utc_text(told.utc) if told else None,
                source=told.source if told else "",
                fps=figures.get("fps"),
                dropped=_whole(figures.get("dropped_total")),
                tracks=_whole(figures.get("tracks")),
                attempt=told.attempt if told else 0,
                restarts=process.restarts if process else 0,
                process=process.state if process else None,
            )
        )
    return tuple(views)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


async def list_cameras(call: Call) -> tuple[CameraView, ...]:
    """Return the cameras and how they are."""
    return tuple(_linked(call, view) for view in camera_views(call.context, call.identity.account))


async def get_camera(call: Call) -> CameraView:
    """Return one camera and how it is."""
    call.check_camera(call.path("camera"))
    views = {view.name: view for view in camera_views(call.context, call.identity.account)}
    return _linked(call, views[call.path("camera")])


def _linked(call: Call, view: CameraView) -> CameraView:
    """Return a camera with the addresses of its pictures."""
    place = f"{PREFIX}/cameras/{view.name}"
    return replace(view, picture=call.link(f"{place}/picture"), stream=call.link(f"{place}/stream"))


async def get_picture(call: Call) -> Response:
    """Return the newest picture of a camera."""
    camera, query = call.path("camera"), call.query
    call.check_camera(camera)
    picture = call.context.latest_picture(camera, query.overlay)
    if picture is None:
        hub: PictureHub = call.request.app.state.hub
        with hub.viewer() as viewer:
            viewer.look_at({camera: query.overlay}, 2.0)
            until = time.monotonic() + PICTURE_WAIT_S
            while camera not in viewer.newest and time.monotonic() < until:
                if call.context.stopping:
                    break
                await _wait(viewer.bell, 0.25)
            picture = viewer.newest.get(camera)
    if picture is None:
        raise ProblemError(503, "no-picture", "The camera has sent no picture lately.")
    headers = {"x-utc": utc_text(picture.utc), "x-sequence": str(picture.sequence)}
    return Response(picture.jpeg, media_type="image/jpeg", headers=headers)


async def stream_pictures(call: Call) -> Response:
    """Return an endless stream of pictures (MJPEG), for single cameras and other programs."""
    camera = call.path("camera")
    call.check_camera(camera)
    hub: PictureHub = call.request.app.state.hub
    if len(hub.viewers) >= call.context.site.page.max_viewers:
        raise ProblemError(503, "busy", "Too many live pages; page.max_viewers sets the limit.")
    media_type = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
    headers = {"x-accel-buffering": "no", "cache-control": "no-store"}
    return StreamingResponse(_parts(call, hub), media_type=media_type, headers=headers)


async def _parts(call: Call, hub: PictureHub) -> AsyncIterator[bytes]:
    """Yield the parts of an MJPEG stream.

    The next part's header follows each picture at once: Chromium shows a picture only when that
    has come. So a part cannot say its length.
    """
    camera, query = call.path("camera"), call.query
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
    watchdog = Stall(call)
    checked = time.monotonic()
    try:
        with hub.viewer() as viewer:
            viewer.look_at({camera: query.overlay}, min(query.fps, call.context.site.page.max_fps))
            yield head
            while not call.context.stopping:
                watchdog.feed()
                await _wait(viewer.bell, 0.25)
                viewer.bell.clear()
                picture: LivePicture | None = viewer.newest.pop(camera, None)
                if time.monotonic() - checked > 20:
                    checked = time.monotonic()
                    if not call.door.still_valid(call.request, call.identity):
                        return
                if picture is not None:
                    watchdog.feed()
                    yield picture.jpeg + b"\r\n" + head
                    hub.pictures += 1
    finally:
        watchdog.end()


class Stall:
    """Drops the connection of a client that takes nothing for 5 s: a send waits for ever."""

    def __init__(self, call: Call) -> None:
        """Watch the connection of a call."""
        self._call, self._fed = call, time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(1.0, self._look)

    def feed(self) -> None:
        """Say that the client took what was sent."""
        self._fed = time.monotonic()

    def end(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _look(self) -> None:
        if time.monotonic() - self._fed > STALL_S:
            state = self._call.request.app.state
            state.hub.dropped_viewers += 1
            state.drop(self._call.request.scope)
            return
        self._timer = asyncio.get_running_loop().call_later(1.0, self._look)


async def _wait(bell: asyncio.Event, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(bell.wait(), timeout_s)
    except asyncio.TimeoutError:
        return


async def restart_camera(call: Call) -> None:
    """Start a camera's process anew."""
    call.check_camera(call.path("camera"))
    await call.command("service.restart", {"camera": call.path("camera")})


OPERATIONS = (
    Operation(
        "GET",
        "/cameras",
        list_cameras,
        "cameras",
        "List cameras and how they are",
        "viewer",
        result=tuple[CameraView, ...],
    ),
    Operation(
        "GET",
        "/cameras/{camera}",
        get_camera,
        "cameras",
        "Get a camera",
        "viewer",
        result=CameraView,
    ),
    Operation(
        "GET",
        "/cameras/{camera}/picture",
        get_picture,
        "cameras",
        "Get the newest picture",
        "viewer",
        query=PictureQuery,
        media_type="image/jpeg",
    ),
    Operation(
        "GET",
        "/cameras/{camera}/stream",
        stream_pictures,
        "cameras",
        "Get a stream of pictures (MJPEG)",
        "viewer",
        query=PicturesQuery,
        media_type="multipart/x-mixed-replace",
    ),
    Operation(
        "POST",
        "/cameras/{camera}/restart",
        restart_camera,
        "cameras",
        "Start a camera's process anew",
    ),
)
