"""A front without the service: the page's context, with a store, pictures and answers."""

from datetime import datetime, timedelta, timezone

from cstl_edge.serve.messages import (
    CameraState,
    LivePicture,
    ProcessState,
    Reply,
    ServiceState,
    Stats,
    now,
)
from cstl_edge.serve.site import Site
from cstl_edge.serve.store import Store

JPEG = b"\xff\xd8\xff\xe0" + b"picture" * 20 + b"\xff\xd9"


class StandinFront:
    """What `FrontContext` asks for; `answers` holds the result, or the Reply, of each command."""

    def __init__(self, folder, cameras=("door", "yard"), **groups):
        self.site = Site(
            data=folder,
            cameras={name: {"source": f"synthetic://2?seed={n}"} for n, name in enumerate(cameras)},
            **groups,
        )
        Store(folder).close()
        self.site_error, self.safe_mode, self.stopping, self.outputs = None, False, False, None
        self.commands, self.answers, self.watched = [], {}, {}
        self.listeners = {name: [] for name in ("picture", "event", "state", "stats", "site")}
        self.pictures = {}
        self.state_utc = None
        self.figures = {
            f"camera:{name}": Stats(
                f"camera:{name}",
                now(),
                {"fps": 9.8, "dropped_total": 2.0, "tracks": 1.0},
                {"segment": (4.0, 5.0, 9.0)},
            )
            for name in cameras
        }

    def state(self):
        utc = self.state_utc or now()
        return ServiceState(
            utc,
            tuple(
                ProcessState(
                    name, "running", pid=100 + n, started_utc=utc, memory_bytes=180_000_000
                )
                for n, name in enumerate(
                    ["recogniser", "front", *(f"camera:{c}" for c in self.site.cameras)]
                )
            ),
            {name: CameraState(name, "online", utc=utc) for name in self.site.cameras},
            ready=True,
        )

    def stats(self):
        return self.figures

    async def command(self, name, arguments, user, *, role="admin", timeout_s=10.0):
        self.commands.append((name, dict(arguments), user, role))
        answer = self.answers.get(name)
        if callable(answer):
            answer = answer(**arguments)
        return answer if isinstance(answer, Reply) else Reply("1", True, answer)

    def done(self, *names):
        """Return the commands but the notes of the audit log, or those of some names."""
        return [c for c in self.commands if (c[0] in names if names else c[0] != "audit.write")]

    def watch(self, camera, fps, overlay="boxes"):
        self.watched[camera, overlay] = fps

    def latest_picture(self, camera, overlay="boxes"):
        return self.pictures.get((camera, overlay))

    def show(self, camera, jpeg=JPEG, overlay="boxes", sequence=1):
        picture = LivePicture(camera, jpeg, now(), sequence, overlay, (360, 640))
        self.pictures[camera, overlay] = picture
        self.tell("picture", picture)

    def tell(self, kind, message):
        for listener in list(self.listeners[kind]):
            listener(message)

    def _on(self, kind, callback):
        self.listeners[kind].append(callback)
        return lambda: self.listeners[kind].remove(callback)

    def on_picture(self, callback):
        return self._on("picture", callback)

    def on_event(self, callback):
        return self._on("event", callback)

    def on_state(self, callback):
        return self._on("state", callback)

    def on_stats(self, callback):
        return self._on("stats", callback)

    def on_site(self, callback):
        return self._on("site", callback)


def ago(minutes):
    """Return a time before now as the store writes it."""
    from cstl_edge.live.events import utc_text

    return utc_text(datetime.now(timezone.utc) - timedelta(minutes=minutes))
