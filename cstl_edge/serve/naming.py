"""Who a visit is of, said by users: corrections, names for unknowns, renames, merges, erasures.

Whatever changes a name changes it everywhere: gallery, stored visits, visits that go on, unknowns.
"""

from __future__ import annotations

from typing import Any

from cstl_edge.errors import CstlEdgeError
from cstl_edge.gallery.match import NoMatch
from cstl_edge.gallery.records import WalkOrigin
from cstl_edge.live.events import REASON_CODES, Event, EventName, ReasonCode
from cstl_edge.serve.corrections import Corrections
from cstl_edge.serve.enrolled import Enrolled
from cstl_edge.serve.enrolment import Enrolments, EnrolmentSession
from cstl_edge.serve.erasure import Erasures
from cstl_edge.serve.kept_walks import KeptWalk
from cstl_edge.serve.ledger import Ledger
from cstl_edge.serve.service_data import RefusedError, ServiceData
from cstl_edge.serve.store_rows import VisitRow
from cstl_edge.serve.unknowns import Unknowns
from cstl_edge.serve.visits import Visits

MAX_NAMED_WALKS = 8  # of an unknown, enrolled when it gets a name: the longest
FIGURES = ("distance", "threshold", "margin", "runner_up", "confidence")


class Naming:
    """Changes who is who."""

    def __init__(
        self,
        data: ServiceData,
        visits: Visits,
        ledger: Ledger,
        unknowns: Unknowns,
        corrections: Corrections,
        enrolled: Enrolled,
        enrolments: Enrolments,
        erasures: Erasures,
    ) -> None:
        """Use the recogniser's parts.

        Args:
            data: What is kept.
            visits: Those in memory.
            ledger: Writes events.
            unknowns: Groups of unknown visitors.
            corrections: What users said.
            enrolled: People of the gallery.
            enrolments: Sessions.
            erasures: Erases without residue.
        """
        self._data, self._visits, self._ledger = data, visits, ledger
        self._unknowns, self._corrections = unknowns, corrections
        self._enrolled, self._enrolments, self._erasures = enrolled, enrolments, erasures

    def correct(self, visit: str, person: str | None, user: str) -> dict[str, Any]:
        """Say who a visit is of.

        Args:
            visit: Its id.
            person: Who it is, as the gallery writes the name; None for nobody enrolled.
            user: Who says so.
        """
        row, walks = self._visit(visit)
        number = self._corrections.add(visit, person, user, walks)
        learned = bool(walks) and (person is None or row.person != person)
        self._unknowns.take_out(visit)
        self._say(visit, person, user, f"corrected by {user}")
        if person is None:
            self._file(visit, walks)
        if person is not None and learned:
            self.sync("a correction")
        return {"correction": number, "learned": learned}

    def undo(self, visit: str) -> None:
        """Take the newest correction of a visit back."""
        self._visit(visit)
        was, user = self._corrections.undo(visit)
        detail = "a correction was taken back"
        self._say(visit, was, user, detail, NoMatch.CORRECTED if user else NoMatch.TOO_FAR)
        self.sync("a correction was taken back")

    def name_unknown(self, cluster: int, person: str, note: str, user: str) -> dict[str, Any]:
        """Give an unknown a name: its best walks are enrolled, its visits follow.

        Args:
            cluster: The unknown.
            person: Name; one in use adds to that person.
            note: How the person consented.
            user: Who says so.
        """
        rows = self._unknowns.visits(cluster)
        if self._enrolled.is_enrolled(person):
            person = self._enrolled.stored_name(person)
        walks = [walk for row in rows for walk in self._data.walks_of(row.id)]
        walks = sorted(walks, key=lambda walk: -walk.seen)[:MAX_NAMED_WALKS]
        if not walks:
            raise RefusedError("not-kept", f"no walk of unknown {cluster} is kept (any more)")
        for walk in walks:
            self._enrol(person, note, walk)
        self._unknowns.forget(cluster)
        for row in rows:
            self._set(row.id, person, user)
        self.sync("an unknown was named")
        return {"person": person, "visits": len(rows), "walks": len(walks)}

    def enrol_visit(
        self, visit: str, person: str, note: str, user: str, *, force: bool
    ) -> EnrolmentSession:
        """Enrol the walk of a visit; the visit follows.

        Args:
            visit: Its id.
            person: Name, as it is to be stored.
            note: How the person consented.
            user: Who says so.
            force: Whether a walk is taken that matches that person well already.
        """
        row, walks = self._visit(visit)
        if not walks:
            raise RefusedError(
                "not-kept", "the walk of this visit is not kept: enrol by walking past a camera"
            )
        if row.person == person and not force:
            raise RefusedError(
                "conflict",
                f"this walk matches {person} already: more of the same helps little and lets the"
                " gallery drift (force adds it all the same)",
            )
        session = self._enrolments.start(person, note, "visit", force=force)
        session.walks = walks
        if row.person is not None and row.person != person:
            session.end("failed", "", self._data.clock())
            raise RefusedError(
                "conflict", f"this visit was named {row.person}: correct the visit first"
            )
        self._enrolments.finish(session)
        if session.state == "done":
            self._unknowns.take_out(visit)
            self._say(visit, person, user, "enrolled from this visit")
        self.gallery_changed(session)
        return session

    def gallery_changed(self, session: EnrolmentSession) -> None:
        """Follow an enrolment that has ended: the visits it is from are that person's."""
        if session.state != "done":
            return
        for visit in session.shown:
            if self._data.store.visit(visit) is not None:
                self._unknowns.take_out(visit)
                self._say(visit, session.person, session.user, "enrolled from this visit")
        self.sync("somebody was enrolled")

    def rename(self, old: str, new: str) -> str:
        """Give a person another name everywhere; return it as it is stored."""
        stored = self._enrolled.rename(old, new)
        self._corrections.rename(old, stored)
        self._follow(old, stored)
        self._erasures.note("a former name")
        self._erasures.finish()
        self.sync("somebody was renamed")
        return stored

    def merge(self, person: str, other: str, user: str) -> int:
        """Give everything of a person to another; return the number that undoes it.

        Args:
            person: Who stays.
            other: Who goes.
            user: Who says so.
        """
        gone = self._enrolled.stored_name(other)
        number = self._enrolled.merge(person, other, user)
        kept = self._enrolled.stored_name(person)
        self._corrections.rename(gone, kept)
        self._follow(gone, kept)
        self.sync("two people were merged")
        return number

    def unmerge(self, merge: int) -> tuple[str, str]:
        """Undo a merge; return both names."""
        kept, other = self._enrolled.unmerge(merge)
        for stay in self._visits:
            row = self._data.store.visit(stay.id)
            if row is not None:
                stay.change(person=row.person)
        self.sync("a merge was undone")
        return kept, other

    def erase(self, name: str) -> dict[str, int]:
        """Erase a person from everything that is kept.

        name: as the gallery writes it
        """
        session = self._enrolments.current
        if session is not None and session.person == name:
            self._enrolments.current = None
        self._forget([row.id for row in self._data.store.visits("person = ?", name)])
        counts = self._erasures.person(name)
        for stay in self._visits:
            if stay.row.runner_up == name:
                stay.change(runner_up=None)
        self._corrections.read()
        self.sync("somebody was erased")
        return counts

    def erase_unknown(self, cluster: int) -> dict[str, int]:
        """Erase an unknown with all visits."""
        visits = [row.id for row in self._unknowns.visits(cluster)]
        self._forget(visits)
        self._unknowns.forget(cluster)
        counts = self._erasures.visits(visits)
        self._data.tell_gallery("an unknown was erased")
        return counts

    def follow_clusters(self) -> None:
        """Read the groups of the visits in memory anew."""
        for stay in self._visits:
            row = self._data.store.visit(stay.id)
            if row is not None:
                stay.change(cluster=row.cluster)

    def follow_gallery(self) -> None:
        """Follow what the command line did to the gallery: names, merges, erasures."""
        news = self._enrolled.news()
        for former, name in news.steps:
            self._enrolled.follow(former, name)
            self._corrections.rename(former, name)
            self._follow(former, name)
        for kept, gone, walks in news.merged:
            self._enrolled.follow_merge(kept, gone, walks)
            self._corrections.rename(gone, kept)
            self._follow(gone, kept)
        for name in news.erased:
            self._forget([row.id for row in self._data.store.visits("person = ?", name)])
        if news.erased:
            self._erasures.traces_of(news.erased)
            self._corrections.read()
        self.sync()
        if news.renamed:
            self._erasures.note("a former name")
            self._erasures.finish()

    def sync(self, detail: str = "the list of people was read anew") -> None:
        """Write the list of people anew and say that the gallery changed, without names."""
        self._enrolled.sync()
        self._data.tell_gallery(detail)

    def _visit(self, visit: str) -> tuple[VisitRow, list[KeptWalk]]:
        """Return a visit and its walks, stored or in memory (RefusedError: there is none)."""
        row = self._data.store.visit(visit)
        if row is None:
            raise RefusedError("not-found", f"there is no visit {visit} (any more)")
        stay = self._visits.find(visit)
        return row, stay.kept_walks() if stay is not None else self._data.walks_of(visit)

    def _say(
        self,
        visit: str,
        person: str | None,
        user: str | None,
        detail: str,
        unknown: NoMatch = NoMatch.CORRECTED,
    ) -> None:
        """Set who a visit is of, and tell."""
        stay = self._visits.find(visit)
        self._set(visit, person, user, unknown)
        row = self._data.store.visit(visit)
        assert row is not None
        if stay is not None and not stay.finished:
            self._ledger.tell(stay, "named", detail)
        else:
            self._data.tell(self._event(row, "changed", detail))

    def _set(
        self,
        visit: str,
        person: str | None,
        user: str | None,
        unknown: NoMatch = NoMatch.CORRECTED,
    ) -> None:
        """Write who a visit is of, in store and memory."""
        reason = None if person is not None else unknown
        values: dict[str, Any] = {
            "answer": "unknown" if person is None else "known",
            "person": person,
            "cluster": None,
            "corrected_by": user,
            "reason_code": None if reason is None else REASON_CODES[reason].value,
            "reason": None if reason is None else reason.value,
        }
        names = ", ".join(f"{name} = ?" for name in values)
        self._data.store.write(f"UPDATE visits SET {names} WHERE id = ?", *values.values(), visit)
        stay = self._visits.find(visit)
        if stay is not None:
            stay.change(**values)

    def _file(self, visit: str, walks: list[KeptWalk]) -> None:
        """Keep the walks of a visit that is of nobody enrolled as those of an unknown, or not."""
        row = self._data.store.visit(visit)
        if row is None or row.ended_utc is None:
            return
        cluster = self._unknowns.assign(row, walks)
        self._data.keep_walks(visit, walks if cluster is not None else [])
        stay = self._visits.find(visit)
        if stay is not None:
            stay.change(cluster=cluster, has_walk=cluster is not None)

    def _enrol(self, person: str, note: str, walk: KeptWalk) -> None:
        origin = WalkOrigin(
            camera=walk.camera, view=walk.view, frames_per_second=walk.frames_per_second
        )
        try:
            self._data.gallery.enroll(person, walk.windows, consent=note, origin=origin, force=True)
        except CstlEdgeError as err:
            raise RefusedError("conflict", err.message) from err

    def _follow(self, old: str, new: str) -> None:
        for stay in self._visits:
            if stay.row.person == old:
                stay.change(person=new)
            if stay.row.runner_up == old:
                stay.change(runner_up=new)
            stay.said = stay.says

    def _forget(self, visits: list[str]) -> None:
        for visit in visits:
            stay = self._visits.find(visit)
            if stay is not None:
                self._visits.forget(stay)

    def _event(self, row: VisitRow, name: EventName, detail: str) -> Event:
        return Event(
            event=name,
            source=row.camera,
            camera=row.camera,
            utc=self._data.clock(),
            visit=row.id,
            answer=row.answer,
            person=row.person,
            cluster=None if row.cluster is None else str(row.cluster),
            reason_code=None if row.reason_code is None else ReasonCode(row.reason_code),
            reason=row.reason,
            detail=detail,
            zone=row.zone,
            frames=row.frames,
            snapshot=row.snapshot,
            model=row.model,
            **{figure: getattr(row, figure) for figure in FIGURES},
        )
