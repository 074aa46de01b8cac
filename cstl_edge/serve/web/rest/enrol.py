"""REST of enrolment by walking past, from a video or from a visit; and of identification."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from cstl_edge.serve.web.problems import ProblemError
from cstl_edge.serve.web.rest.models import EnrolBody, StopBody, UploadQuery
from cstl_edge.serve.web.rest.operations import Call, Operation
from cstl_edge.serve.web.rest.visits import visible_visit
from cstl_edge.serve.web.uploads import received_video

DECODE_S = 300.0  # for a video of the largest size on a small CPU


@dataclass(frozen=True, kw_only=True)
class EnrolmentView:
    """An enrolment and how far it is."""

    id: str
    person: str
    kind: Literal["camera", "video", "visit"]
    state: Literal["waiting", "walking", "done", "failed", "stopped"]
    camera: str | None = None
    windows: int = 0  # good ones, each of about a second of walking
    wanted: int = 0
    views: dict[str, int] = field(default_factory=dict)  # good windows by side
    quality: float | None = None  # 0..1, how alike the windows are
    message: str = ""  # what to do, in a sentence
    warnings: tuple[str, ...] = ()
    started_utc: str | None = None
    ended_utc: str | None = None


@dataclass(frozen=True, kw_only=True)
class IdentifiedWalk:
    """Somebody who walks in an uploaded video."""

    track: int
    answer: Literal["known", "unknown", "none"]
    person: str | None = None
    distance: float | None = None
    threshold: float | None = None
    confidence: float | None = None
    frames: int = 0
    reason: str | None = None
    reason_code: str | None = None
    started_s: float | None = None
    ended_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class IdentifyView:
    """Who walks in an uploaded video; nothing of it is kept."""

    walks: tuple[IdentifiedWalk, ...]
    seconds: float | None = None


async def start_enrolment(call: Call) -> EnrolmentView:
    """Begin to enrol somebody by walking past a camera, or from a visit."""
    body: EnrolBody = call.body
    if (body.camera is None) == (body.visit is None):
        raise ProblemError(422, "body", "Expected either a camera or a visit.")
    arguments: dict[str, Any] = {"person": body.person, "note": body.note, "add": body.add}
    if body.camera is not None:
        call.check_camera(body.camera)
        arguments["camera"] = body.camera
    else:
        visit = await visible_visit(call, str(body.visit))
        arguments |= {"visit": visit.id, "force": body.force}
    return _view(await call.command("enrol.start", arguments, timeout_s=30))


async def enrol_video(call: Call) -> EnrolmentView:
    """Enrol the one person who walks in an uploaded video."""
    query: UploadQuery = call.query
    site = call.context.site
    async with received_video(call.request, site.spool, site.page.max_upload_mb) as path:
        arguments = {"person": query.person, "note": query.note, "add": query.add}
        result = await call.command(
            "enrol.start", {**arguments, "path": str(path)}, timeout_s=DECODE_S
        )
        return _view(result)


async def get_enrolment(call: Call) -> EnrolmentView | None:
    """Return the enrolment that runs, or the last one; null where there was none."""
    result = await call.command("enrol.status", {})
    return None if result is None else _view(result)


async def stop_enrolment(call: Call) -> EnrolmentView | None:
    """End the enrolment that runs."""
    body: StopBody = call.body
    result = await call.command("enrol.stop", {"keep": body.keep}, timeout_s=30)
    return None if result is None else _view(result)


async def identify_video(call: Call) -> IdentifyView:
    """Tell who walks in an uploaded video; nothing of it is kept."""
    site = call.context.site
    async with received_video(call.request, site.spool, site.page.max_upload_mb) as path:
        result = await call.command("identify", {"path": str(path)}, timeout_s=DECODE_S)
    walks = tuple(IdentifiedWalk(**walk) for walk in result["walks"])
    return IdentifyView(walks=walks, seconds=result.get("seconds"))


def _view(result: dict[str, Any]) -> EnrolmentView:
    known = {name: result[name] for name in EnrolmentView.__dataclass_fields__ if name in result}
    known["warnings"] = tuple(known.get("warnings", ()))
    return EnrolmentView(**known)


OPERATIONS = (
    Operation(
        "POST",
        "/enrolment",
        start_enrolment,
        "enrolment",
        "Enrol somebody by walking past, or from a visit",
        body=EnrolBody,
        result=EnrolmentView,
    ),
    Operation(
        "POST",
        "/enrolment/video",
        enrol_video,
        "enrolment",
        "Enrol the one person who walks in an uploaded video",
        query=UploadQuery,
        result=EnrolmentView,
        upload=True,
    ),
    Operation(
        "GET",
        "/enrolment",
        get_enrolment,
        "enrolment",
        "Tell how far the enrolment is",
        result=EnrolmentView | None,
    ),
    Operation(
        "POST",
        "/enrolment/stop",
        stop_enrolment,
        "enrolment",
        "End the enrolment that runs",
        body=StopBody,
        result=EnrolmentView | None,
    ),
    Operation(
        "POST",
        "/identify",
        identify_video,
        "identify",
        "Tell who walks in an uploaded video",
        "viewer",
        result=IdentifyView,
        upload=True,
    ),
)
