"""Front process: runs the page and the outputs, and gives them messages of the other processes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cstl_edge.serve.child import Child
from cstl_edge.serve.context import Unsubscribe
from cstl_edge.serve.messages import (
    RECOGNISER,
    SUPERVISOR,
    Command,
    EventMessage,
    LivePicture,
    Message,
    Overlay,
    Reload,
    Reply,
    ServiceState,
    Stats,
    Watch,
    camera_process,
    now,
)
from cstl_edge.serve.site import Site

if TYPE_CHECKING:
    from uvicorn import Server

    from cstl_edge.serve.outputs.open import SiteOutputs
    from cstl_edge.serve.web.pictures import PictureHub

log = logging.getLogger(__name__)

PICTURE_S = 10.0  # that a picture counts as the newest
WATCH_S = 10.0  # that a worker draws after one call of `watch`
REWATCH_S = 3.0  # between two wishes for the same pictures
BEAT_S = 0.5
SERVICE = "service."  # commands of the supervisor begin so

T = TypeVar("T")


class Subscribers(Generic[T]):
    """Functions that are called with every message of one kind."""

    def __init__(self) -> None:
        self._callbacks: dict[int, Callable[[T], None]] = {}
        self._next = 0

    def add(self, callback: Callable[[T], None]) -> Unsubscribe:
        """Call a function from now on; return what ends that."""
        number, self._next = self._next, self._next + 1
        self._callbacks[number] = callback
        return lambda: self._callbacks.pop(number, None) and None

    def tell(self, message: T) -> None:
        """Call them all; an error of one is logged and does not reach the others."""
        for callback in list(self._callbacks.values()):
            try:
                callback(message)
            except Exception:
                log.exception("a subscriber failed")


class Front:
    """The front process as page and outputs see it: a `context.FrontContext`."""

    def __init__(self, child: Child, site: Site, error: str | None, safe: bool) -> None:
        """Begin without knowing anything.

        Args:
            child: This process.
            site: The site.
            error: What is wrong with its file.
            safe: Whether nothing runs but the page.
        """
        self._child, self._site = child, site
        self._error, self._safe = error, safe
        self._state = ServiceState(now(), (), {}, error)
        self._stats: dict[str, Stats] = {}
        self._pictures: dict[tuple[str, Overlay], tuple[float, LivePicture]] = {}
        self._watched: dict[tuple[str, Overlay], tuple[float, float]] = {}
        self._replies: dict[str, asyncio.Future[Reply]] = {}
        self._outputs: SiteOutputs | None = None
        self._on_picture: Subscribers[LivePicture] = Subscribers()
        self._on_event: Subscribers[EventMessage] = Subscribers()
        self._on_state: Subscribers[ServiceState] = Subscribers()
        self._on_stats: Subscribers[Stats] = Subscribers()
        self._on_site: Subscribers[Site] = Subscribers()

    @property
    def site(self) -> Site:
        """The site as it runs."""
        return self._site

    @property
    def site_error(self) -> str | None:
        """Why the file of the site does not load."""
        return self._state.site_error

    @property
    def safe_mode(self) -> bool:
        """Whether nothing runs but the page."""
        return self._safe

    @property
    def stopping(self) -> bool:
        """Whether the service ends."""
        return self._child.stopping.is_set()

    @property
    def outputs(self) -> SiteOutputs | None:
        """The outputs that run; None in safe mode."""
        return self._outputs

    def use(self, outputs: SiteOutputs) -> None:
        """Hold the outputs."""
        self._outputs = outputs

    def state(self) -> ServiceState:
        """Return the newest state of processes and cameras."""
        return self._state

    def stats(self) -> Mapping[str, Stats]:
        """Return the newest figures by process."""
        return self._stats

    async def command(
        self,
        name: str,
        arguments: Mapping[str, Any],
        user: str,
        *,
        role: str = "admin",
        timeout_s: float = 10.0,
    ) -> Reply:
        """Ask recogniser or supervisor for something.

        Args:
            name: Such as `people.rename`; `service.…` goes to the supervisor.
            arguments: JSON values.
            user: For the audit log.
            role: Role of the user.
            timeout_s: How long to wait for the answer [s].
        """
        number = secrets.token_hex(8)
        peer = SUPERVISOR if name.startswith(SERVICE) else RECOGNISER
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._replies[number] = answer
        command = Command(number, name, dict(arguments), user, role)  # type: ignore[arg-type]
        try:
            if not self._child.send(peer, command):
                return Reply(number, False, None, "away", f"the {peer} is not there just now")
            return await asyncio.wait_for(answer, timeout_s)
        except asyncio.TimeoutError:
            message = f"the {peer} did not answer within {timeout_s:g} s"
            return Reply(number, False, None, "timeout", message)
        finally:
            self._replies.pop(number, None)

    def watch(self, camera: str, fps: float, overlay: Overlay = "boxes") -> None:
        """Ask a worker for pictures for the next 10 s.

        Args:
            camera: Name of the camera.
            fps: Pictures per second at most; 0 ends it.
            overlay: What is drawn.
        """
        key, now_s = (camera, overlay), time.monotonic()
        last_s, last_fps = self._watched.get(key, (0.0, -1.0))
        if now_s - last_s < REWATCH_S and fps == last_fps:
            return
        if self._child.send(camera_process(camera), Watch(camera, fps, overlay, WATCH_S)):
            self._watched[key] = now_s, fps

    def latest_picture(self, camera: str, overlay: Overlay = "boxes") -> LivePicture | None:
        """Return the newest picture of a camera, none that is older than 10 s.

        camera: its name
        overlay: what is drawn
        """
        came_s, picture = self._pictures.get((camera, overlay), (0.0, None))
        return picture if time.monotonic() - came_s < PICTURE_S else None

    def on_picture(self, callback: Callable[[LivePicture], None]) -> Unsubscribe:
        """Call for every new picture of any camera."""
        return self._on_picture.add(callback)

    def on_event(self, callback: Callable[[EventMessage], None]) -> Unsubscribe:
        """Call for every committed event."""
        return self._on_event.add(callback)

    def on_state(self, callback: Callable[[ServiceState], None]) -> Unsubscribe:
        """Call whenever a state changes, and every second."""
        return self._on_state.add(callback)

    def on_stats(self, callback: Callable[[Stats], None]) -> Unsubscribe:
        """Call with the figures of every process."""
        return self._on_stats.add(callback)

    def on_site(self, callback: Callable[[Site], None]) -> Unsubscribe:
        """Call with the new site after a reload."""
        return self._on_site.add(callback)

    def take(self, message: Message) -> None:
        """Take a message of another process, in the thread of the event loop."""
        if isinstance(message, LivePicture):
            self._pictures[message.camera, message.overlay] = time.monotonic(), message
            self._on_picture.tell(message)
        elif isinstance(message, EventMessage):
            self._on_event.tell(message)
        elif isinstance(message, ServiceState):
            self._state = message
            self._forget_processes(message)
            self._on_state.tell(message)
        elif isinstance(message, Stats):
            self._stats[message.process] = message
            self._on_stats.tell(message)
        elif isinstance(message, Reply):
            answer = self._replies.get(message.id)
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif isinstance(message, Reload):
            self._site = message.site
            self._on_site.tell(self._site)

    def _forget_processes(self, state: ServiceState) -> None:
        """Forget the figures and pictures of cameras that are gone."""
        names = {process.name for process in state.processes}
        for name in set(self._stats) - names:
            del self._stats[name]
        for key in [key for key in self._pictures if camera_process(key[0]) not in names]:
            del self._pictures[key]


def main(child: Child, site: Site, error: str | None, safe: bool) -> None:
    """Run page and outputs until the service ends.

    Args:
        child: This process.
        site: The site.
        error: What is wrong with its file.
        safe: Whether nothing runs but the page.
    """
    asyncio.run(_serve(child, Front(child, site, error, safe)))


async def _serve(child: Child, front: Front) -> None:
    from cstl_edge.serve.outputs.open import start
    from cstl_edge.serve.web.app import create_app
    from cstl_edge.serve.web.server import make_server, open_socket

    loop = asyncio.get_running_loop()
    threading.Thread(target=_receive, args=(child, front, loop), daemon=True).start()
    outputs = None if front.safe_mode else start(front)
    metrics = None
    if outputs is not None:
        front.use(outputs)
        metrics = outputs.metrics.render
    app = create_app(front, metrics=metrics)
    server = make_server(app, front.site.page)
    beating = asyncio.create_task(_beat(child, front, server, app.state.hub))
    try:
        with open_socket(front.site.page) as listener:
            await server.serve(sockets=[listener])
    finally:
        child.stopping.set()
        beating.cancel()
        if outputs is not None:
            await asyncio.to_thread(outputs.close)


async def _beat(child: Child, front: Front, server: Server, hub: PictureHub) -> None:
    """Tell that the page answers, once it does; end the server when the process is to end."""
    while not child.stopping.is_set():
        if server.started:
            figures = {
                "page_clients": float(len(hub.viewers)),
                "page_clients_dropped_total": float(hub.dropped_viewers),
                "pictures_total": float(hub.pictures),
            }
            child.beat(figures | (front.outputs.stats() if front.outputs is not None else {}))
        await asyncio.sleep(BEAT_S)
    server.should_exit = True


def _receive(child: Child, front: Front, loop: asyncio.AbstractEventLoop) -> None:
    """Hand the messages of other processes to the event loop; a thread of its own."""
    while not child.stopping.is_set():
        received = child.receive(0.5)
        if received is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(front.take, received[1])
