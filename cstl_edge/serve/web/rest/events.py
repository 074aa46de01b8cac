"""REST of events: those that were written, a long poll, and a stream (server-sent events)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from cstl_edge.serve.messages import EventMessage
from cstl_edge.serve.store_rows import EventRow, VisitFilter
from cstl_edge.serve.web.rest.cameras import Stall
from cstl_edge.serve.web.rest.models import EventsQuery, EventsView, EventView, StreamQuery
from cstl_edge.serve.web.rest.operations import Call, Operation

PING_S = 15.0  # proxies cut what is silent for 60 s
PAGE = 200  # events read at once


async def list_events(call: Call) -> EventsView:
    """Return events: the newest, or those after one that is known, waiting for the first."""
    query: EventsQuery = call.query
    filters = _filters(call, query)
    if query.after is None:
        rows = await call.read(lambda reader: reader.newest_events(query.limit, filters))
        last = rows[0].id if rows else await call.read(lambda reader: reader.last_event_id)
        return EventsView(events=_views(rows), last=last)
    after, until = query.after, time.monotonic() + query.wait_s
    with Bell(call) as bell:
        while True:
            rows = await call.read(lambda reader: reader.events(after, query.limit, filters))
            left = until - time.monotonic()
            if rows or left <= 0 or call.context.stopping:
                return EventsView(events=_views(rows), last=rows[-1].id if rows else after)
            await bell.wait(min(left, 1.0))


async def stream_events(call: Call) -> Response:
    """Return an endless stream of events; `Last-Event-ID` continues one that was cut."""
    headers = {"x-accel-buffering": "no", "cache-control": "no-store"}
    return StreamingResponse(_lines(call), media_type="text/event-stream", headers=headers)


async def _lines(call: Call) -> AsyncIterator[str]:
    query: StreamQuery = call.query
    known = call.request.headers.get("last-event-id", "")
    after = int(known) if known.isdecimal() and len(known) < 19 else query.after
    if after is None:
        after = await call.read(lambda reader: reader.last_event_id)
    filters, last, position = _filters(call, query), time.monotonic(), after
    watchdog = Stall(call)
    try:
        with Bell(call) as bell:
            yield ": begins\n\n"
            while not call.context.stopping:
                watchdog.feed()
                rows = await _after(call, position, filters)
                for row in rows:
                    watchdog.feed()
                    text = json.dumps(row.event, ensure_ascii=False)
                    yield f"id: {row.id}\nevent: {row.event['event']}\ndata: {text}\n\n"
                    position, last = row.id, time.monotonic()
                if not rows:
                    if time.monotonic() - last > PING_S:
                        if not call.door.still_valid(call.request, call.identity):
                            return
                        last = time.monotonic()
                        yield ": still here\n\n"
                    await bell.wait(1.0)
    finally:
        watchdog.end()


async def _after(call: Call, event: int, filters: VisitFilter) -> tuple[EventRow, ...]:
    return await call.read(lambda reader: reader.events(event, PAGE, filters))


class Bell:
    """Rings when an event is committed, for the length of a block."""

    def __init__(self, call: Call) -> None:
        """Listen to the context of a call."""
        self._call, self._bell = call, asyncio.Event()

    def __enter__(self) -> Bell:
        """Begin to listen."""
        self._end = self._call.context.on_event(self._ring)
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop listening."""
        self._end()

    def _ring(self, message: EventMessage) -> None:
        self._bell.set()

    async def wait(self, timeout_s: float) -> None:
        """Wait for the next event, at most so long."""
        try:
            await asyncio.wait_for(self._bell.wait(), timeout_s)
        except asyncio.TimeoutError:
            return
        self._bell.clear()


def _filters(call: Call, query: EventsQuery | StreamQuery) -> VisitFilter:
    return VisitFilter(
        cameras=call.cameras(query.camera),
        person=query.person,
        answer=query.answer,
        since_utc=query.since if isinstance(query, EventsQuery) else None,
        until_utc=query.until if isinstance(query, EventsQuery) else None,
    )


def _views(rows: tuple[EventRow, ...]) -> tuple[EventView, ...]:
    return tuple(EventView(id=row.id, event=row.event) for row in rows)


OPERATIONS = (
    Operation(
        "GET",
        "/events",
        list_events,
        "events",
        "List events, or wait for the next",
        "viewer",
        query=EventsQuery,
        result=EventsView,
    ),
    Operation(
        "GET",
        "/events/stream",
        stream_events,
        "events",
        "Get events as they come (server-sent events)",
        "viewer",
        query=StreamQuery,
        media_type="text/event-stream",
    ),
)
