"""Commands of the page to the recogniser: each a method, answered with JSON or a typed error.

Whoever changes something is written to the audit log, with the name of whom it is about; erasing
takes that name out again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cstl_edge.errors import CstlEdgeError, one_line
from cstl_edge.gallery.people import clean_consent, clean_name
from cstl_edge.live.events import REASON_CODES
from cstl_edge.serve.corrected_gallery import CorrectedGallery
from cstl_edge.serve.corrections import Corrections
from cstl_edge.serve.enrolled import MERGED, PARTED, Enrolled
from cstl_edge.serve.enrolment import Enrolments, EnrolmentSession
from cstl_edge.serve.erasure import ERASED, Erasures
from cstl_edge.serve.ledger import Ledger
from cstl_edge.serve.messages import Command, Reply
from cstl_edge.serve.naming import Naming
from cstl_edge.serve.recordings import RecordedTrack, Recordings
from cstl_edge.serve.retention import Retention
from cstl_edge.serve.service_data import RefusedError, ServiceData
from cstl_edge.serve.unknowns import Unknowns

MAX_TEXT = 500  # characters of a row of the audit log
LATER = object()  # the answer comes when a video has been looked at


@dataclass
class Parts:
    """The parts of the recogniser that commands use."""

    data: ServiceData
    gallery: CorrectedGallery
    corrections: Corrections
    enrolled: Enrolled
    enrolments: Enrolments
    erasures: Erasures
    ledger: Ledger
    naming: Naming
    recordings: Recordings
    retention: Retention
    unknowns: Unknowns


class Requests:
    """Answers commands."""

    def __init__(self, parts: Parts, reply: Callable[[Reply], object]) -> None:
        """Use the recogniser's parts.

        Args:
            parts: They.
            reply: Sends an answer.
        """
        self._parts, self._reply = parts, reply
        self._commands: dict[str, Callable[[Command, Mapping[str, Any]], Any]] = {
            "visits.correct": self._correct,
            "visits.undo": self._undo,
            "unknowns.name": self._name_unknown,
            "unknowns.join": self._join,
            "unknowns.unjoin": self._unjoin,
            "unknowns.ignore": self._ignore,
            "unknowns.erase": self._erase_unknown,
            "unknowns.recluster": self._recluster,
            "people.list": self._people,
            "people.rename": self._rename,
            "people.merge": self._merge,
            "people.unmerge": self._unmerge,
            "people.erase": self._erase,
            "people.export": self._export,
            "people.warnings": self._warnings,
            "enrol.start": self._enrol,
            "enrol.status": self._enrol_status,
            "enrol.stop": self._enrol_stop,
            "identify": self._identify,
            "gallery.reload": self._reload,
            "retention.run": self._retain,
            "erasure.status": self._erasure_status,
            "audit.write": self._audit_row,
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all commands."""
        return tuple(self._commands)

    def answer(self, command: Command) -> None:
        """Do what a command asks, and send the answer."""
        run = self._commands.get(command.name)
        try:
            if run is None:
                raise RefusedError("not-found", f"there is no command {one_line(command.name)}")
            result = run(command, command.arguments)
        except CstlEdgeError as err:
            self._refuse(command, err)
            return
        except (KeyError, TypeError, ValueError) as err:
            message = f"{command.name}: an argument is missing or of another kind: {one_line(err)}"
            self._reply(Reply(command.id, False, None, "usage", message))
            return
        if result is not LATER:
            self._reply(Reply(command.id, True, result))

    def _refuse(self, command: Command, err: CstlEdgeError) -> None:
        self._reply(Reply(command.id, False, None, err.code, str(err)))

    def _audit(self, command: Command, subject: str, detail: str = "") -> None:
        self._parts.data.store.write(
            "INSERT INTO audit (utc, user, role, action, subject, detail)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            self._parts.data.now_text,
            command.user[:MAX_TEXT],
            command.role,
            command.name,
            subject[:MAX_TEXT],
            detail[:MAX_TEXT],
        )

    def _correct(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        visit, person = str(arguments["visit"]), arguments["person"]
        name = None if person is None else self._parts.enrolled.stored_name(str(person))
        result = self._parts.naming.correct(visit, name, command.user)
        self._audit(command, name or "nobody enrolled", f"visit {visit}")
        return result

    def _undo(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        visit = str(arguments["visit"])
        self._parts.naming.undo(visit)
        self._audit(command, "", f"visit {visit}")
        return None

    def _name_unknown(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        cluster = int(arguments["cluster"])
        person = clean_name(str(arguments["person"]))
        note = clean_consent(str(arguments["note"]))
        result = self._parts.naming.name_unknown(cluster, person, note, command.user)
        self._audit(command, person, f"unknown {cluster}")
        return result

    def _join(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        cluster, other = int(arguments["cluster"]), int(arguments["other"])
        merge = self._parts.unknowns.join(cluster, other, command.user)
        self._parts.naming.follow_clusters()
        self._audit(command, f"unknown {cluster}", f"unknown {other} went into it")
        return {"merge": merge}

    def _unjoin(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        other = self._parts.unknowns.unjoin(int(arguments["merge"]))
        self._parts.naming.follow_clusters()
        self._audit(command, f"unknown {other}")
        return {"cluster": other}

    def _ignore(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        cluster, ignored = int(arguments["cluster"]), bool(arguments["ignored"])
        self._parts.unknowns.ignore(cluster, ignored=ignored)
        self._audit(command, f"unknown {cluster}", "ignored" if ignored else "shown again")
        return None

    def _erase_unknown(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        cluster = int(arguments["cluster"])
        counts = self._parts.naming.erase_unknown(cluster)
        self._audit(command, f"unknown {cluster}")
        return {**counts, "unfinished": self._parts.erasures.unfinished}

    def _recluster(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        changed = self._parts.unknowns.recluster()
        self._parts.naming.follow_clusters()
        return {"changed": changed}

    def _people(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        return [asdict(person) for person in self._parts.data.gallery.people()]

    def _rename(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        old = self._parts.enrolled.stored_name(str(arguments["person"]))
        new = self._parts.naming.rename(old, clean_name(str(arguments["name"])))
        self._audit(command, new)  # the former name is to leave no trace
        return {"name": new}

    def _merge(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        person, other = str(arguments["person"]), str(arguments["other"])
        merge = self._parts.naming.merge(person, other, command.user)
        self._audit(command, person, MERGED.format(other))
        return {"merge": merge}

    def _unmerge(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        kept, other = self._parts.naming.unmerge(int(arguments["merge"]))
        self._audit(command, kept, PARTED.format(other))
        return {"person": kept, "other": other}

    def _erase(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        name = self._parts.enrolled.stored_name(str(arguments["person"]))
        self._audit(command, name)
        counts = self._parts.naming.erase(name)
        return {"name": ERASED, **counts, "unfinished": self._parts.erasures.unfinished}

    def _export(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        name = self._parts.enrolled.stored_name(str(arguments["person"]))
        result = self._parts.enrolled.export(name, self._parts.data.site.spool)
        self._audit(command, name)
        return result

    def _warnings(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        return self._parts.enrolled.warnings()

    def _enrol(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        person = clean_name(str(arguments["person"]))
        note = clean_consent(str(arguments["note"]))
        person = self._known_or_new(person, add=bool(arguments.get("add", False)))
        if arguments.get("camera") is not None:
            camera = str(arguments["camera"])
            if camera not in self._parts.data.site.cameras:
                raise RefusedError("not-found", f"there is no camera {one_line(camera)}")
            force = bool(arguments.get("force", False))
            session = self._parts.enrolments.start(
                person, note, "camera", camera=camera, force=force, user=command.user
            )
        elif arguments.get("visit") is not None:
            session = self._parts.naming.enrol_visit(
                str(arguments["visit"]),
                person,
                note,
                command.user,
                force=bool(arguments.get("force", False)),
            )
        elif arguments.get("path") is not None:
            return self._enrol_video(command, person, note, Path(str(arguments["path"])))
        else:
            raise RefusedError("usage", "expected a camera, a visit or a video to enrol from")
        self._audit(command, person, f"from a {session.kind}")
        return session.status()

    def _known_or_new(self, person: str, *, add: bool) -> str:
        """Return the name to enrol under (RefusedError)."""
        known = self._parts.enrolled.is_enrolled(person)
        if known and not add:
            raise RefusedError(
                "conflict", f"'{person}' is enrolled already: add walks to them, or choose a name"
            )
        if add and not known:
            raise RefusedError("not-found", f"nobody is enrolled as '{person}'")
        return self._parts.enrolled.stored_name(person) if known else person

    def _enrol_video(self, command: Command, person: str, note: str, path: Path) -> Any:
        session = self._parts.enrolments.start(person, note, "video")
        session.state, session.message = "walking", "the video is being looked at"

        def found(tracks: list[RecordedTrack]) -> None:
            if session.runs:
                self._parts.enrolments.from_video(session, tracks)
                self._parts.naming.gallery_changed(session)
            self._reply(Reply(command.id, True, session.status()))

        def failed(err: CstlEdgeError) -> None:
            session.end("failed", str(err), self._parts.data.clock())
            self._reply(Reply(command.id, True, session.status()))

        try:
            self._parts.recordings.start(path, found, failed)
        except CstlEdgeError as err:
            session.end("failed", str(err), self._parts.data.clock())
            raise
        self._audit(command, person, "from a video")
        return LATER

    def _enrol_status(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        session = self._parts.enrolments.current
        return None if session is None else session.status()

    def _enrol_stop(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        session: EnrolmentSession | None = self._parts.enrolments.stop(
            keep=bool(arguments.get("keep", False))
        )
        if session is None:
            return None
        self._parts.naming.gallery_changed(session)
        return session.status()

    def _identify(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        def found(tracks: list[RecordedTrack]) -> None:
            try:
                walks = [self._identified(track) for track in tracks]
            except CstlEdgeError as err:
                self._refuse(command, err)
                return
            seconds = max((track.ended_s or 0.0 for track in tracks), default=None)
            self._reply(Reply(command.id, True, {"walks": walks, "seconds": seconds}))

        def failed(err: CstlEdgeError) -> None:
            self._refuse(command, err)

        self._parts.recordings.start(Path(str(arguments["path"])), found, failed)
        return LATER

    def _identified(self, track: RecordedTrack) -> dict[str, Any]:
        decision = self._parts.gallery.identify(
            track.walk.walk, self._parts.data.site.fpir, learn=False
        )
        reason = decision.reason
        return {
            "track": track.track,
            "answer": "unknown" if decision.name is None else "known",
            "person": decision.name,
            "distance": decision.distance,
            "threshold": decision.threshold,
            "confidence": decision.confidence,
            "frames": track.frames,
            "reason": None if reason is None else reason.value,
            "reason_code": None if reason is None else REASON_CODES[reason].value,
            "started_s": track.started_s,
            "ended_s": track.ended_s,
        }

    def _reload(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        """Read the list of people anew: the command line has changed the gallery."""
        self._parts.naming.follow_gallery()
        return {"people": len(self._parts.data.gallery.people())}

    def _retain(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        removed = self._parts.retention.run(trust_clock=bool(arguments.get("trust_clock", False)))
        self._audit(command, "", str(asdict(removed)))
        return asdict(removed)

    def _erasure_status(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        return {"unfinished": self._parts.erasures.retry()}

    def _audit_row(self, command: Command, arguments: Mapping[str, Any]) -> Any:
        action = str(arguments["action"])[:MAX_TEXT]
        self._parts.data.store.write(
            "INSERT INTO audit (utc, user, role, action, subject, detail)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            self._parts.data.now_text,
            command.user[:MAX_TEXT],
            command.role,
            action,
            str(arguments.get("subject", ""))[:MAX_TEXT],
            str(arguments.get("detail", ""))[:MAX_TEXT],
        )
        return None
