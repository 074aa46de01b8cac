"""The page's application on a front's context: door, probes, pages, REST, the live WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Scope

from cstl_edge.credentials import fill_in
from cstl_edge.serve.context import FrontContext
from cstl_edge.serve.web.door import Door, bearer
from cstl_edge.serve.web.figures import Latencies
from cstl_edge.serve.web.live import live_socket
from cstl_edge.serve.web.pages import Pages
from cstl_edge.serve.web.pictures import PictureHub
from cstl_edge.serve.web.problems import ProblemError
from cstl_edge.serve.web.rest.openapi import describe
from cstl_edge.serve.web.rest.operations import PREFIX
from cstl_edge.serve.web.rest.service import alive
from cstl_edge.serve.web.rest.session import caller_of_request
from cstl_edge.serve.web.rest.table import OPERATIONS
from cstl_edge.serve.web.sessions import Sessions
from cstl_edge.serve.web.settings import is_loopback

Render = Callable[[], tuple[bytes, str]]
"""Returns the text of `/metrics` and its content type."""


def create_app(context: FrontContext, *, metrics: Render | None = None) -> Starlette:
    """Return the application.

    Args:
        context: What the front process offers.
        metrics: Renders `/metrics`; None answers 404.

    Raises:
        ConfigError: A file of a password or token cannot be read.
        StorageError: The file of sessions cannot be written.
    """
    sessions = Sessions(context.site.data)
    hub, latencies = PictureHub(context), Latencies()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.ensure_future(hub.run()), asyncio.ensure_future(_look(app))]
        unsubscribe = context.on_stats(latencies.feed)
        yield
        unsubscribe()
        for task in tasks:
            task.cancel()
        hub.close()
        sessions.close()

    app = Starlette(
        routes=[
            *_probes(context, metrics),
            *(operation.route(context) for operation in OPERATIONS),
            Route(f"{PREFIX}/openapi.json", _openapi, methods=["GET"]),
            Route("/api/{path:path}", _no_operation, methods=METHODS),
            WebSocketRoute("/live", live_socket),
            *Pages(context).routes(),
        ],
        middleware=[Middleware(Door, holder=context, sessions=sessions)],
        lifespan=lifespan,
    )
    app.state.context, app.state.hub, app.state.latencies = context, hub, latencies
    app.state.sessions = sessions
    app.state.drop, app.state.look = _no_server, None
    return app


LOOK_S = 2.0  # between two looks for silent connections
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


async def _look(app: Starlette) -> None:
    """Let the server end silent connections, until it is cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        if app.state.look is not None:
            app.state.look()


def _no_server(scope: Scope) -> None:
    """Drop no connection: there is no server below (tests)."""


async def _openapi(request: Request) -> Response:
    return JSONResponse(describe(OPERATIONS, request.scope["root_path"]))


async def _no_operation(request: Request) -> Response:
    return ProblemError(404, "not-found", "There is no such operation.").response()


def _probes(context: FrontContext, metrics: Render | None) -> list[Route]:
    """Return the routes for machines: alive, ready, metrics."""

    async def livez(request: Request) -> Response:
        """Tell whether page and supervisor are alive."""
        ok = alive(context)
        return JSONResponse({"alive": ok}, 200 if ok else 503)

    async def readyz(request: Request) -> Response:
        """Tell whether every camera was seen or is explained."""
        state = context.state()
        answer: dict[str, Any] = {"ready": state.ready}
        if is_loopback(caller_of_request(request).address):  # the reasons name cameras
            answer["reasons"] = list(state.not_ready_reasons)
        return JSONResponse(answer, 200 if state.ready else 503)

    async def metrics_text(request: Request) -> Response:
        """Answer with the figures for Prometheus."""
        if metrics is None or not context.site.outputs.metrics.enabled:
            return ProblemError(404, "not-found", "Metrics are off.").response()
        if not _may_scrape(request, context):
            title = "Metrics need a token; outputs.metrics.token of the site sets it."
            return ProblemError(401, "login-needed", title).response()
        body, media_type = metrics()
        return Response(body, media_type=None, headers={"content-type": media_type})

    probes = {"/livez": livez, "/readyz": readyz, "/healthz": livez, "/metrics": metrics_text}
    return [Route(path, endpoint, methods=["GET"]) for path, endpoint in probes.items()]


def _may_scrape(request: Request, context: FrontContext) -> bool:
    """Tell whether a request may read `/metrics`."""
    settings = context.site.outputs.metrics
    if settings.public:
        return True
    token = bearer(request.headers)
    if token is None:
        return False
    wanted = fill_in(settings.token) if settings.token is not None else None
    if wanted is not None and hmac.compare_digest(wanted.encode(), token.encode()):
        return True
    door: Door = request.scope["cstl_edge.door"]
    return door.accounts.by_token(token) is not None
