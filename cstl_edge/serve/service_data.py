"""What the parts of the recogniser share: model, gallery, store, settings, clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cstl_edge.errors import CstlEdgeError
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.live.events import Event, model_digits, utc_text
from cstl_edge.runtime.base import EncoderInfo
from cstl_edge.serve.alike import WalkMeasure
from cstl_edge.serve.kept_walks import KeptWalk, load_walks, save_walk
from cstl_edge.serve.media import Media
from cstl_edge.serve.messages import EventMessage
from cstl_edge.serve.site import Site
from cstl_edge.serve.store import Store

RECENT = timedelta(minutes=15)  # that walks of visits stay in memory, whatever is kept
MAX_RECENT = 200
SOURCE = "serve"  # of events that are of no camera


class RefusedError(CstlEdgeError):
    """A command of the page that is refused, with a word for programs."""

    exit_code = 2
    code = "refused"
    remedy = "see the message"

    def __init__(self, code: str, message: str, *, remedy: str | None = None) -> None:
        """Hold a message.

        Args:
            code: not-found, conflict, busy, disabled or another word.
            message: What was expected and what came.
            remedy: What to do.
        """
        super().__init__(message, remedy=remedy)
        self.code = code


@dataclass
class ServiceData:
    """Everything that the recogniser alone owns."""

    site: Site
    store: Store
    gallery: Gallery
    info: EncoderInfo
    measure: WalkMeasure
    media: Media
    clock: Callable[[], datetime]
    announce: Callable[[EventMessage], object]  # wakes page and outputs
    recent: OrderedDict[str, tuple[datetime, list[KeptWalk]]] = field(default_factory=OrderedDict)

    @property
    def now_text(self) -> str:
        """The present time, as the store writes it."""
        return utc_text(self.clock())

    @property
    def model(self) -> str | None:
        """Digits of the model."""
        return model_digits(self.info.weights_sha256)

    def tell(self, event: Event) -> int:
        """Write an event to the journal and announce it; return its number."""
        number = self.store.add_event(event)
        self.announce(EventMessage(number, event.to_dict()))
        return number

    def tell_gallery(self, detail: str) -> None:
        """Tell that people changed; without names: those who are gone leave none behind."""
        self.tell(
            Event(
                event="gallery",
                source=SOURCE,
                state="changed",
                detail=detail,
                model=self.model,
                utc=self.clock(),
            )
        )

    def remember(self, visit: str, walks: list[KeptWalk]) -> None:
        """Keep the walks of a visit in memory for some minutes."""
        now = self.clock()
        self.recent[visit] = (now, walks)
        self.recent.move_to_end(visit)
        while self.recent and (
            len(self.recent) > MAX_RECENT or now - next(iter(self.recent.values()))[0] > RECENT
        ):
            self.recent.popitem(last=False)

    def walks_of(self, visit: str) -> list[KeptWalk]:
        """Return the walks of a visit, from memory or as they are kept; none where they are not."""
        if visit in self.recent:
            return self.recent[visit][1]
        return load_walks(self.store, self.gallery.seal, visit, self.info.weights_sha256)

    def keep_walks(self, visit: str, walks: list[KeptWalk]) -> None:
        """Store the walks of a visit, in place of what is stored."""
        seal = self.gallery.seal
        with self.store.transaction() as db:
            db.execute("DELETE FROM tracks WHERE visit = ?", (visit,))
            for walk in walks:
                save_walk(self.store, seal, visit, walk, self.info.weights_sha256)
            db.execute("UPDATE visits SET has_walk = ? WHERE id = ?", (bool(walks), visit))
