"""REST of people and unknowns: list, name, join, rename, merge, export, erase, and undo."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from cstl_edge.serve.web.problems import ProblemError
from cstl_edge.serve.web.rest.models import (
    ErasedView,
    IgnoreBody,
    IgnoredQuery,
    JoinBody,
    MergeBody,
    NameBody,
    PeopleView,
    PersonWarning,
    RenameBody,
    UnknownsView,
    UnknownView,
    UnmergeBody,
)
from cstl_edge.serve.web.rest.operations import Call, Operation
from cstl_edge.serve.web.rest.visits import media_link


async def list_people(call: Call) -> PeopleView:
    """Return everybody enrolled, and what to look at."""
    people = await call.read(lambda reader: reader.people())
    warnings: tuple[PersonWarning, ...] = ()
    if call.identity.is_admin:
        with contextlib.suppress(ProblemError):  # the recogniser is away: the list still helps
            told = await call.command("people.warnings", {}, timeout_s=3)
            warnings = tuple(PersonWarning(**warning) for warning in told or ())
    return PeopleView(people=people, warnings=warnings)


async def rename_person(call: Call) -> None:
    """Give a person another name."""
    body: RenameBody = call.body
    arguments = {"person": call.path("person"), "name": body.name}
    await call.command("people.rename", arguments, timeout_s=60)


async def merge_people(call: Call) -> UnmergeBody:
    """Merge another person into one; can be undone."""
    body: MergeBody = call.body
    arguments = {"person": call.path("person"), "other": body.other}
    result = await call.command("people.merge", arguments)
    return UnmergeBody(merge=result["merge"])


async def unmerge_people(call: Call) -> None:
    """Undo a merge."""
    body: UnmergeBody = call.body
    await call.command("people.unmerge", {"merge": body.merge})


async def export_person(call: Call) -> Response:
    """Return everything that is kept of a person as one file."""
    result = await call.command("people.export", {"person": call.path("person")}, timeout_s=60)
    path = Path(result["path"])
    spool = call.context.site.spool.resolve()
    if not path.resolve().is_relative_to(spool) or not path.is_file():
        raise ProblemError(500, "internal", "The exported file is not where it belongs.")
    name = quote(str(result["name"]), safe="")
    return FileResponse(
        path,
        media_type=result.get("media_type", "application/octet-stream"),
        headers={"content-disposition": f"attachment; filename*=UTF-8''{name}"},
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


async def erase_person(call: Call) -> ErasedView:
    """Erase a person from everything that is kept."""
    result = await call.command("people.erase", {"person": call.path("person")}, timeout_s=60)
    return _erased(result)


def _erased(result: Any) -> ErasedView:
    return ErasedView(unfinished=tuple(map(str, (result or {}).get("unfinished") or ())))


async def list_unknowns(call: Call) -> UnknownsView:
    """Return the unknown visitors, the latest seen first."""
    query: IgnoredQuery = call.query
    account, keep = call.identity.account, call.context.site.keep.unknowns
    rows = await call.read(lambda reader: reader.unknowns(ignored=query.ignored))
    shown = [row for row in rows if any(account.may_see(camera) for camera in row.cameras)]
    views = tuple(
        UnknownView(
            **asdict(row),
            snapshot_url=media_link(call, row.snapshot),
            strip_url=media_link(call, row.strip),
        )
        for row in shown
    )
    return UnknownsView(enabled=keep.enabled, days=keep.days, unknowns=views)


async def name_unknown(call: Call) -> None:
    """Give somebody unknown a name; the past visits follow."""
    body: NameBody = call.body
    arguments = {"cluster": cluster_of(call), "person": body.person, "note": body.note}
    await call.command("unknowns.name", arguments)


async def join_unknowns(call: Call) -> UnmergeBody:
    """Join another unknown who is the same one; can be undone."""
    body: JoinBody = call.body
    arguments = {"cluster": cluster_of(call), "other": body.other}
    result = await call.command("unknowns.join", arguments)
    return UnmergeBody(merge=result["merge"])


async def unjoin_unknowns(call: Call) -> None:
    """Undo a join."""
    body: UnmergeBody = call.body
    await call.command("unknowns.unjoin", {"merge": body.merge})


async def ignore_unknown(call: Call) -> None:
    """Ignore somebody unknown, or no longer."""
    body: IgnoreBody = call.body
    await call.command("unknowns.ignore", {"cluster": cluster_of(call), "ignored": body.ignored})


async def erase_unknown(call: Call) -> ErasedView:
    """Erase somebody unknown from everything that is kept."""
    result = await call.command("unknowns.erase", {"cluster": cluster_of(call)}, timeout_s=60)
    return _erased(result)


def cluster_of(call: Call) -> int:
    """Return the number of the unknown in the path (ProblemError)."""
    text = call.path("cluster")
    if not text.isdecimal() or len(text) > 15:
        raise ProblemError(404, "not-found", "There is no such unknown.")
    return int(text)


OPERATIONS = (
    Operation(
        "GET", "/people", list_people, "people", "List who is enrolled", "viewer", result=PeopleView
    ),
    Operation(
        "PATCH",
        "/people/{person:path}",
        rename_person,
        "people",
        "Rename a person",
        body=RenameBody,
    ),
    Operation(
        "POST",
        "/people/{person:path}/merge",
        merge_people,
        "people",
        "Merge another person into one",
        body=MergeBody,
        result=UnmergeBody,
    ),
    Operation("POST", "/unmerge", unmerge_people, "people", "Undo a merge", body=UnmergeBody),
    Operation(
        "GET",
        "/people/{person:path}/export",
        export_person,
        "people",
        "Export everything that is kept of a person",
        media_type="application/octet-stream",
    ),
    Operation(
        "DELETE",
        "/people/{person:path}",
        erase_person,
        "people",
        "Erase a person",
        result=ErasedView,
    ),
    Operation(
        "GET",
        "/unknowns",
        list_unknowns,
        "unknowns",
        "List unknown visitors",
        "viewer",
        query=IgnoredQuery,
        result=UnknownsView,
    ),
    Operation(
        "POST",
        "/unknowns/{cluster}/name",
        name_unknown,
        "unknowns",
        "Name somebody unknown",
        body=NameBody,
    ),
    Operation(
        "POST",
        "/unknowns/{cluster}/join",
        join_unknowns,
        "unknowns",
        "Join two unknowns",
        body=JoinBody,
        result=UnmergeBody,
    ),
    Operation("POST", "/unjoin", unjoin_unknowns, "unknowns", "Undo a join", body=UnmergeBody),
    Operation(
        "POST",
        "/unknowns/{cluster}/ignored",
        ignore_unknown,
        "unknowns",
        "Ignore somebody unknown, or no longer",
        body=IgnoreBody,
    ),
    Operation("DELETE", "/unknowns/{cluster}", erase_unknown, "unknowns", "Erase somebody unknown"),
)
