"""A recogniser in this process, and people who walk past its cameras: no process, no picture."""

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
from pooled_encoder import PooledEncoder

from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.tracking.walk_filter import Reason
from cstl_edge.serve.messages import (
    Command,
    EventMessage,
    Observation,
    Reply,
    SeenTrack,
    TrackSnapshot,
)
from cstl_edge.serve.reader import Reader
from cstl_edge.serve.recogniser import Recogniser
from cstl_edge.serve.site import Site

START = datetime(2026, 11, 30, 8, tzinfo=timezone.utc)
FPS = 10
THRESHOLD = 0.5  # the encoder below has distances of about 0.1 and 2


def silhouette(person, frame):
    """A body of 16 bands, whose widths are the person's; it sways a little."""
    widths = np.random.default_rng(person).integers(8, 34, 16)
    picture = np.zeros((64, 44), np.uint8)
    for band, width in enumerate(widths):
        left = 22 - width // 2 + (frame % 4 == 0 and band > 8)
        picture[4 * band : 4 * band + 4, left : left + width] = 255
    return picture


def clothes(person):
    """Colours of somebody's clothes, 0..255."""
    return tuple(np.random.default_rng([person, 1]).uniform(20, 235, 6).tolist())


@dataclass
class Walk:
    """Somebody on one camera, from left to right; hidden in some parts of the time."""

    person: int
    camera: str = "door"
    start_s: float = 0.0
    seconds: float = 6.0
    x: float = 40.0
    speed: float = 60.0  # pixels per second
    hidden: tuple = ()  # (from, to) in seconds: each part in view is a track
    dressed: int | None = None  # as this person
    reason: Reason | None = None  # why no frame is usable
    merged: tuple = ()  # (from, to) in seconds, with a neighbour
    after: int | None = None  # who leaves the merge, in place of them
    turns_s: float | None = None  # seconds after which they turn back

    def pieces(self):
        """The parts of the time in view."""
        begin, end = self.start_s, self.start_s + self.seconds
        for gone, back in self.hidden:
            yield begin, gone
            begin = back
        yield begin, end

    def seen(self, number, time_s):
        gone_s, heading = time_s - self.start_s, self.speed / 120
        if self.turns_s is not None and gone_s > self.turns_s:
            gone_s, heading = 2 * self.turns_s - gone_s, -heading
        box = (self.x + self.speed * gone_s, 100.0, 40.0, 120.0)
        frame = round(time_s * FPS)
        shown_s, reason, person = time_s - self.start_s, self.reason, self.person
        if self.merged and self.merged[0] <= shown_s < self.merged[1]:
            reason = Reason.MERGED
        elif self.merged and shown_s >= self.merged[1] and self.after is not None:
            person = self.after
        picture = None if reason else silhouette(person, frame)
        if picture is not None and heading > 0:
            picture = np.ascontiguousarray(picture[:, ::-1])
        dressed = self.person if self.dressed is None else self.dressed
        return SeenTrack(number, box, reason, picture, heading, clothes(dressed), None)


class House:
    """A recogniser of some cameras, its clock, and everything that it sends."""

    def __init__(self, folder, cameras=("door", "yard"), free=10**12, **keep):
        settings = {"source": "synthetic://1", "threshold": THRESHOLD}
        self.site = Site(data=folder / "data", cameras=dict.fromkeys(cameras, settings), keep=keep)
        self.free, self.sent, self.now_s, self._track, self._number = free, [], 0.0, 0, 0
        self.open()

    def open(self):
        self.recogniser = Recogniser(
            self.site, self._send, PooledEncoder(), clock=self.clock, free=lambda _: self.free
        )
        self.run = f"run{self._number}"
        self._number += 1

    def clock(self):
        return START + timedelta(seconds=self.now_s)

    def _send(self, peer, message):
        self.sent.append((peer, message))

    @property
    def reader(self):
        return Reader(self.site.data)

    def messages(self, kind):
        return [message for _, message in self.sent if isinstance(message, kind)]

    def events(self, *names):
        found = [message.event for message in self.messages(EventMessage)]
        return [event for event in found if not names or event["event"] in names]

    def play(self, *walks, until_s=None):
        """Let people walk; then let time pass until every visit has ended."""
        tracks = []
        for walk in walks:
            for begin, end in walk.pieces():
                self._track += 1
                tracks.append((walk, self._track, self.now_s + begin, self.now_s + end, self.now_s))
        start_s = self.now_s
        last_s = until_s or max((end for *_, end, _ in tracks), default=self.now_s) + 0.5
        born, gone = set(), set()
        while self.now_s < last_s:
            for camera in self.site.cameras:
                self._frame(camera, tracks, born, gone)
            self.recogniser.tick()
            self.now_s = round(self.now_s + 1 / FPS, 3)
        if until_s is None:
            self.skip(25)
        return start_s

    def skip(self, seconds):
        """Let time pass in which nobody is in view."""
        self.now_s = round(self.now_s + seconds)
        self.recogniser.tick()

    def _frame(self, camera, tracks, born, gone):
        here = [t for t in tracks if t[0].camera == camera]
        seen = [t for t in here if t[2] <= self.now_s < t[3]]
        new = [t[1] for t in seen if t[1] not in born]
        old = [t[1] for t in here if t[1] in born and t[1] not in gone and t[3] <= self.now_s]
        if not seen and not old:
            return
        born.update(new)
        gone.update(old)
        self.recogniser.receive(
            f"camera:{camera}",
            Observation(
                camera=camera,
                run=self.run,
                frame=round(self.now_s * FPS),
                utc=self.clock(),
                time_s=self.now_s,
                read_at_s=0.0,
                size=(360, 640),
                scene=SceneState.READY,
                tracks=tuple(w.seen(n, self.now_s - zero) for w, n, *_, zero in seen),
                born=tuple(new),
                closed=tuple(old),
            ),
        )

    def ask(self, command, /, user="admin", **arguments):
        """Send a command; return the reply."""
        self._number += 1
        self.recogniser.receive("front", Command(str(self._number), command, arguments, user))
        reply = self.messages(Reply)[-1]
        assert reply.id == str(self._number)
        return reply

    def do(self, command, /, user="admin", **arguments):
        """Send a command that succeeds; return its result."""
        reply = self.ask(command, user, **arguments)
        assert reply.ok, (reply.code, reply.message)
        return reply.result

    def enrol(self, name, person, note="agreed"):
        """Enrol somebody by walking past the door twice."""
        self.do("enrol.start", person=name, note=note, camera="door")
        self.play(Walk(person, seconds=14, speed=30))
        return self.do("enrol.stop", keep=True)

    def answer_snapshots(self, jpeg=b"\xff\xd8picture"):
        """Send a picture for everything that was asked for."""
        from cstl_edge.serve.messages import SnapshotRequest

        requests = self.messages(SnapshotRequest)
        self.sent = [item for item in self.sent if not isinstance(item[1], SnapshotRequest)]
        for request in requests:
            snapshot = TrackSnapshot(request.camera, request.track, request.id, jpeg, self.clock())
            self.recogniser.receive(f"camera:{request.camera}", snapshot)

    def visits(self, **filters):
        from cstl_edge.serve.store_rows import VisitFilter

        return list(reversed(self.reader.visits(VisitFilter(**filters), limit=500).visits))

    def restart(self):
        self.recogniser.close()
        self.open()

    def close(self):
        with closing(self.recogniser):
            pass

    def bytes(self):
        """Everything that lies in the data folder."""
        files = [path for path in self.site.data.rglob("*") if path.is_file()]
        return b"".join(path.read_bytes() for path in files)
