"""Walks of a source, for verbs that enroll or identify: collected, counted down, chosen from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cstl_edge.cli.console import Progress, notify, progress
from cstl_edge.cli.signals import SignalEnd
from cstl_edge.errors import CstlEdgeError, DataError, one_line

if TYPE_CHECKING:  # every help text would wait for what these import
    from cstl_edge.gallery.gallery import Gallery
    from cstl_edge.live.annotate import WalkerView
    from cstl_edge.live.pipeline.collect import CollectLimit, CollectState
    from cstl_edge.live.pipeline.options import PipelineOptions, TrackRecord
    from cstl_edge.live.pipeline.run import PipelineRun
    from cstl_edge.live.sources.base import Frame
    from cstl_edge.live.sources.options import SourceOptions
    from cstl_edge.live.sources.read_ahead import ReadAhead
    from cstl_edge.runtime.base import Encoder, EncoderInfo

LIVE_SECONDS = 60.0  # that a live source is looked at, unless --seconds says otherwise
ENOUGH_WINDOWS = 6  # of one walk: about four seconds at 25 frames per second
WALK_NOW = "walk past the camera now, from side to side"
RECORDINGS = ("file", "synthetic")  # sources that end by themselves

Seconds = Annotated[
    float | None,
    typer.Option(
        min=0.5,
        help="Look for so many seconds: of a camera (default: 60, and less once a walk is good), "
        "or of a recording (default: all of it).",
    ),
]
Track = Annotated[
    int | None,
    typer.Option(min=0, help="Number of the walker that is meant, where several are seen."),
]
Pictures = Annotated[
    Path | None,
    typer.Option(
        help="Folder for pictures of each walker (default: in runs/tracks, written where several "
        "are seen and --track is missing)."
    ),
]


@dataclass(frozen=True)
class SourceChoice:
    """A source, how it is read, and for how long."""

    address: str
    rotate: str | None = None
    flip: str | None = None
    fps: float | None = None
    seconds: float | None = None
    ahead: ReadAhead | None = None  # a recording that is read already,
    begun: PipelineRun | None = None  # and is looked at

    @property
    def is_live(self) -> bool:
        """Whether the source has no end of its own, as far as its address tells."""
        from cstl_edge.live.sources.open import source_kind

        kind = source_kind(self.address)
        return kind not in RECORDINGS or "live=1" in self.address

    def options(self, *, wait: bool = False) -> SourceOptions:
        """Return the options of the source; wait: for a camera that does not answer yet."""
        from cstl_edge.live.sources.options import SourceOptions

        rotate = None if self.rotate is None else int(self.rotate)
        return SourceOptions(rotate=rotate, flip=self.flip, fps=self.fps, wait=wait)

    def limit(self) -> CollectLimit:
        """Return when to stop looking."""
        from cstl_edge.live.pipeline.collect import CollectLimit

        if not self.is_live:
            return CollectLimit(self.seconds)
        return CollectLimit(self.seconds or LIVE_SECONDS, ENOUGH_WINDOWS)


@contextmanager
def reading(choice: SourceChoice) -> Iterator[SourceChoice]:
    """Begin to read a recording: meanwhile the rest is imported and loaded. A camera waits."""
    from cstl_edge.live.sources.read_ahead import read_ahead

    ahead = read_ahead(choice.address, choice.options())
    try:
        yield replace(choice, ahead=ahead)
    finally:
        if ahead is not None:
            ahead.close()


@contextmanager
def learning(
    choice: SourceChoice, encoder: Encoder, options: PipelineOptions
) -> Iterator[SourceChoice]:
    """Begin to look at a recording that is read: its empty scene is learned meanwhile.

    What prevents it is raised by `collect_walks`, behind what the caller does before.

    Args:
        choice: The source.
        encoder: Embeds the silhouettes.
        options: Segmentation and windows.
    """
    if choice.ahead is None:
        yield choice
        return
    from cstl_edge.live.pipeline.run import PipelineRun

    with ExitStack() as stack:
        with suppress(CstlEdgeError):
            run = PipelineRun(choice.ahead, encoder, None, options, keep=True)
            choice = replace(choice, begun=stack.enter_context(run))
        yield choice


@dataclass
class Observers:
    """What looks at the frames of a run: an annotated video, contact sheets."""

    seen: list[Callable[[Frame, list[WalkerView], str | None], None]] = field(default_factory=list)
    fps_of: Callable[[], float] = float  # returns the rate of the frames, once they come

    def __call__(self, frame: Frame, walkers: list[WalkerView], note: str | None) -> None:
        """Show one frame to all of them."""
        for observer in self.seen:
            observer(frame, walkers, note)

    def add_video(self, path: Path, stack: ExitStack, *, live: bool) -> None:
        """Add the writer of an annotated video, which begins with the first frame.

        Args:
            path: Of the video.
            stack: Ends the video.
            live: Whether the source does not wait.
        """
        from cstl_edge.live.video.annotated import AnnotatedVideo

        videos: list[AnnotatedVideo] = []

        def write(frame: Frame, walkers: list[WalkerView], note: str | None) -> None:
            if not videos:
                video = AnnotatedVideo(path, self.fps_of(), live=live)
                videos.append(stack.enter_context(video))
            videos[0].write(frame.image, walkers, note)

        self.seen.append(write)


def collect_walks(
    choice: SourceChoice,
    encoder: Encoder,
    options: PipelineOptions,
    observers: Observers,
    gallery: Gallery | None = None,
) -> list[TrackRecord]:
    """Return the walks of a source, while a bar shows how far it is and counts down.

    Args:
        choice: The source, and for how long.
        encoder: Embeds the silhouettes.
        options: Segmentation and windows.
        observers: See every frame.
        gallery: Searched for what the observers draw.
    """
    from cstl_edge.live.pipeline.collect import collect
    from cstl_edge.live.sources.base import redact

    limit, name = choice.limit(), redact(choice.address)
    with SignalEnd(), progress(f"looking at {name}") as bar:
        return collect(
            choice.begun or choice.ahead or choice.address,
            encoder,
            options,
            observers,
            gallery=gallery,
            limit=limit,
            source_options=choice.options(),
            progress=_Guide(bar, observers, limit),
        )


class _Guide:
    """Says when to walk, and draws how far a collection is."""

    def __init__(self, bar: Progress, observers: Observers, limit: CollectLimit) -> None:
        self._bar, self._observers, self._limit = bar, observers, limit
        self._has_begun = False

    def __call__(self, state: CollectState) -> None:
        """Take the state at a frame."""
        self._observers.fps_of = lambda: state.fps
        if state.live:
            if not self._has_begun:
                notify(
                    f"{WALK_NOW}: it ends by itself after a good walk, or in "
                    f"{self._limit.seconds:g} s; Ctrl-C ends it at once"
                )
            seen = min(state.windows, ENOUGH_WINDOWS)
            self._bar.describe(f"{WALK_NOW}: {seen} of {ENOUGH_WINDOWS} windows")
        self._has_begun = True
        self._bar.count(state.done, state.total)


class TrackChoice:
    """Pictures of every walker, and the choice of one."""

    def __init__(self, source: str, folder: Path | None) -> None:
        """Begin without pictures.

        Args:
            source: Address of the source.
            folder: For the pictures; one of its own below runs/tracks by default.
        """
        from cstl_edge.live.contact_sheet import ContactSheets

        self._source, self._folder = source, folder
        self._sheets = ContactSheets()

    def see(self, frame: Frame, walkers: list[WalkerView], note: str | None) -> None:
        """Take a frame."""
        self._sheets.see(frame.image, walkers)

    def choose(
        self, records: Sequence[TrackRecord], track: int | None, info: EncoderInfo | None = None
    ) -> TrackRecord:
        """Return the walk that is meant: the longest one where all are surely of one person.

        Args:
            records: The usable walks, the longest first.
            track: Number of the one that is meant; None: nobody said.
            info: Of the model, which tells whether several walks are of one person.

        Raises:
            DataError: That is not certain, or there is no such walker; with time, box and picture
                of each, which are written.
        """
        if track is None and len(records) == 1:
            if self._folder is not None:
                self._sheets.write(self._folder, records[0].track)
            return records[0]
        for record in records:
            if record.track == track:
                return record
        if track is None and info is not None and _are_of_one_person(records, info):
            numbers = ", ".join(str(record.track) for record in records)
            notify(
                f"tracks {numbers} are of one person: the longest walk, of track "
                f"{records[0].track}, is taken; --track N takes another"
            )
            return records[0]
        for record in records:
            notify(self._description(record))
        numbers = ", ".join(str(record.track) for record in records)
        wanted = f"no usable walk of track {track}" if track is not None else "choose one of them"
        raise DataError(
            f"{wanted}: there {'is' if len(records) == 1 else 'are'} {len(records)} with a usable "
            f"walk here, track {numbers}; their pictures are in {one_line(self._folder)}",
            remedy="look at them and say --track N",
        )

    def show(self, records: Sequence[TrackRecord]) -> None:
        """Write the pictures of all walks, where a folder is named, and say where they are."""
        for record in records if self._folder is not None else ():
            path = self._picture(record)
            if path is not None:
                notify(f"pictures of track {record.track}: {path}")

    def _description(self, record: TrackRecord) -> str:
        """Return number, time, box and picture of a walk."""
        words = f"track {record.track}: {record.frames} usable frames"
        if record.started_s is not None and record.ended_s is not None:
            words += f", {record.started_s:.1f} to {record.ended_s:.1f} s"
        if record.box is not None:
            x, y, w, h = (round(v) for v in record.box)
            words += f", last at x {x} to {x + w}, y {y} to {y + h}"
        picture = self._picture(record)
        return words + (f", {one_line(picture)}" if picture else "")

    def _picture(self, record: TrackRecord) -> Path | None:
        if self._folder is None:
            stem = Path(self._source.partition("?")[0]).stem[:40]
            plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem) or "source"
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            self._folder = Path("runs/tracks") / f"{plain}-{stamp}"
        return self._sheets.write(self._folder, record.track)


def _are_of_one_person(records: Sequence[TrackRecord], info: EncoderInfo) -> bool:
    from cstl_edge.live.pipeline.agreement import Agreement

    return Agreement(info).are_of_one_person(records)
