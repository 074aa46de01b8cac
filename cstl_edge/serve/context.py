"""What the front process offers to page and outputs: commands, pictures, states, the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from cstl_edge.serve.messages import EventMessage, LivePicture, Overlay, Reply, ServiceState, Stats
from cstl_edge.serve.site import Site

if TYPE_CHECKING:
    from cstl_edge.serve.outputs.base import RunningOutputs

Unsubscribe = Callable[[], None]


class FrontContext(Protocol):
    """The front process, as page and outputs see it; every call returns at once or is awaited.

    Callbacks run in the thread of the event loop and must not block.
    """

    @property
    def site(self) -> Site:
        """The site as it runs; another object after a reload."""

    @property
    def site_error(self) -> str | None:
        """Why the file of the site does not load (safe mode, or a reload that failed)."""

    @property
    def safe_mode(self) -> bool:
        """Whether nothing runs but the page, because there is no valid site."""

    @property
    def stopping(self) -> bool:
        """Whether the service ends: every open stream has to end by itself now."""

    @property
    def outputs(self) -> RunningOutputs | None:
        """The outputs that run; None in safe mode."""

    def state(self) -> ServiceState:
        """Return the newest state of processes and cameras."""

    def stats(self) -> Mapping[str, Stats]:
        """Return the newest figures by process."""

    def command(
        self,
        name: str,
        arguments: Mapping[str, Any],
        user: str,
        *,
        role: str = "admin",
        timeout_s: float = 10.0,
    ) -> Awaitable[Reply]:
        """Ask recogniser or supervisor for something; a Reply with code `timeout` or `away` else.

        Args:
            name: Such as `people.rename`; `service.…` goes to the supervisor.
            arguments: JSON values.
            user: For the audit log.
            role: Role of the user.
            timeout_s: How long to wait for the answer [s].
        """

    def watch(self, camera: str, fps: float, overlay: Overlay = "boxes") -> None:
        """Ask a worker for pictures for the next 10 s; fps 0 ends it. Call again to go on."""

    def latest_picture(self, camera: str, overlay: Overlay = "boxes") -> LivePicture | None:
        """Return the newest picture of a camera, if any came within the last 10 s."""

    def on_picture(self, callback: Callable[[LivePicture], None]) -> Unsubscribe:
        """Call for every new picture of any camera; return what ends that."""

    def on_event(self, callback: Callable[[EventMessage], None]) -> Unsubscribe:
        """Call for every committed event."""

    def on_state(self, callback: Callable[[ServiceState], None]) -> Unsubscribe:
        """Call whenever a state changes, and every second."""

    def on_stats(self, callback: Callable[[Stats], None]) -> Unsubscribe:
        """Call with the figures of every process, about every second each."""

    def on_site(self, callback: Callable[[Site], None]) -> Unsubscribe:
        """Call with the new site after a reload."""
