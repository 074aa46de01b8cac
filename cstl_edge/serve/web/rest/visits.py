"""REST of visits: who came, when, where; who is here; corrections; pictures and clips."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from starlette.responses import FileResponse, Response

from cstl_edge.serve.reader import Reader
from cstl_edge.serve.store_rows import VisitFilter, VisitRow
from cstl_edge.serve.web.problems import ProblemError
from cstl_edge.serve.web.rest.models import (
    CorrectionBody,
    HereView,
    LastSeenView,
    PresenceView,
    VisitDetail,
    VisitsQuery,
    VisitsView,
    VisitView,
)
from cstl_edge.serve.web.rest.operations import PREFIX, Call, Operation


def media_link(call: Call, media: str | None) -> str | None:
    """Return the address of a picture or clip, None where there is none."""
    return call.link(f"{PREFIX}/media/{media}") if media else None


def views_of(call: Call, rows: Iterable[VisitRow], labels: dict[int, str]) -> list[VisitView]:
    """Return visits with addresses of their pictures.

    Args:
        call: Of REST.
        rows: Visits.
        labels: Of unknowns, by number.
    """
    return [
        VisitView(
            **asdict(row),
            camera_title=call.context.site.camera_title(row.camera),
            snapshot_url=media_link(call, row.snapshot),
            strip_url=media_link(call, row.strip),
            clip_url=media_link(call, row.clip),
            cluster_label=labels.get(row.cluster) if row.cluster is not None else None,
        )
        for row in rows
    ]


async def list_visits(call: Call) -> VisitsView:
    """Return visits, the newest first."""
    query: VisitsQuery = call.query
    filters = VisitFilter(
        cameras=call.cameras(query.camera),
        person=query.person,
        cluster=query.cluster,
        answer=query.answer,
        journey=query.journey,
        since_utc=query.since,
        until_utc=query.until,
    )
    page = await call.read(lambda reader: reader.visits(filters, query.page, query.limit))
    labels = await call.read(labels_of)
    return VisitsView(visits=tuple(views_of(call, page.visits, labels)), next=page.next)


def labels_of(reader: Reader) -> dict[int, str]:
    """Return the names of unknowns by number."""
    return {unknown.id: unknown.label for unknown in reader.unknowns(ignored=True)}


async def get_visit(call: Call) -> VisitDetail:
    """Return a visit with the others of its way."""
    row = await visible_visit(call, call.path("visit"))
    labels = await call.read(labels_of)
    way = await call.read(lambda reader: reader.journey(row.journey))
    account = call.identity.account
    way = tuple(other for other in way if account.may_see(other.camera))
    corrections = await call.read(lambda reader: reader.corrections(row.id))
    return VisitDetail(
        visit=views_of(call, [row], labels)[0],
        journey=tuple(views_of(call, way, labels)),
        corrections=corrections,
    )


async def visible_visit(call: Call, visit: str) -> VisitRow:
    """Return a visit that this user may see (ProblemError)."""
    row = await call.read(lambda reader: reader.visit(visit))
    if row is None or not call.identity.account.may_see(row.camera):
        raise ProblemError(404, "not-found", "There is no such visit (any more).")
    return row


async def correct_visit(call: Call) -> None:
    """Say who it really was; the next match honours it."""
    row = await visible_visit(call, call.path("visit"))
    body: CorrectionBody = call.body
    await call.command("visits.correct", {"visit": row.id, "person": body.person})


async def undo_correction(call: Call) -> None:
    """Take the newest correction of a visit back."""
    row = await visible_visit(call, call.path("visit"))
    await call.command("visits.undo", {"visit": row.id})


async def get_media(call: Call) -> Response:
    """Return a snapshot, strip or clip; parts of it where `Range` asks for them."""
    found = await call.read(lambda reader: reader.media(call.path("media")))
    if found is None:
        raise ProblemError(404, "not-found", "There is no such picture or clip (any more).")
    row, path = found
    if row.visit is not None:
        await visible_visit(call, row.visit)
    elif not call.identity.sees_all:
        raise ProblemError(404, "not-found", "There is no such picture or clip (any more).")
    if not path.is_file():
        raise ProblemError(404, "not-found", "The file of this picture or clip is gone.")
    return FileResponse(
        path, media_type=row.mime, headers={"cache-control": "private, max-age=600"}
    )


async def get_here(call: Call) -> HereView:
    """Return who is here now, and when everybody was seen last."""
    present = await call.read(lambda reader: reader.presence())
    last = await call.read(lambda reader: reader.last_seen())
    account = call.identity.account
    return HereView(
        now=tuple(
            PresenceView(**asdict(row), snapshot_url=media_link(call, row.snapshot))
            for row in present
            if account.may_see(row.camera)
        ),
        last=tuple(
            LastSeenView(**asdict(row), snapshot_url=media_link(call, row.snapshot))
            for row in last
            if account.may_see(row.camera)
        ),
    )


OPERATIONS = (
    Operation(
        "GET",
        "/visits",
        list_visits,
        "visits",
        "List visits",
        "viewer",
        query=VisitsQuery,
        result=VisitsView,
    ),
    Operation(
        "GET", "/visits/{visit}", get_visit, "visits", "Get a visit", "viewer", result=VisitDetail
    ),
    Operation(
        "POST",
        "/visits/{visit}/correction",
        correct_visit,
        "visits",
        "Say who it really was",
        body=CorrectionBody,
    ),
    Operation(
        "DELETE",
        "/visits/{visit}/correction",
        undo_correction,
        "visits",
        "Take the newest correction back",
    ),
    Operation(
        "GET",
        "/media/{media}",
        get_media,
        "visits",
        "Get a snapshot, a strip of silhouettes or a clip",
        "viewer",
        media_type="image/*, video/*",
    ),
    Operation(
        "GET",
        "/here",
        get_here,
        "visits",
        "Tell who is here now and when everybody was seen last",
        "viewer",
        result=HereView,
    ),
)
