"""Pages: shells without data, which the modules in `static/` fill from REST; login by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from cstl_edge import __version__
from cstl_edge.serve.context import FrontContext
from cstl_edge.serve.web.door import Door, too_many
from cstl_edge.serve.web.identity import identity_of
from cstl_edge.serve.web.rest.session import begin_session, caller_of_request
from cstl_edge.serve.web.texts import STATIC, texts

TEMPLATES = Path(__file__).parent / "templates"
PAGES = {
    "/": "now",
    "/visits": "visits",
    "/unknowns": "unknowns",
    "/people": "people",
    "/health": "health",
}


class OwnFiles(StaticFiles):
    """Static files, which the browser asks about again after a minute."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return the answer with a file, or that it is unchanged."""
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "max-age=60"
        return response


class Pages:
    """The shells of the pages, and the login by the printed address."""

    def __init__(self, context: FrontContext) -> None:
        """Read the templates.

        context: of the front, whose site has a name
        """
        self._context = context
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def routes(self) -> list[Route | Mount]:
        """Return the routes of pages and static files."""
        return [
            *(Route(path, self.page, methods=["GET"]) for path in PAGES),
            Route("/login", self.login, methods=["GET"]),
            Route("/favicon.ico", self.favicon, methods=["GET"]),
            Mount("/static", OwnFiles(directory=STATIC), name="static"),
            Route("/{path:path}", self.missing, methods=["GET"]),
        ]

    def _render(self, request: Request, name: str, status: int = 200, **values: str) -> Response:
        known = identity_of(request) is not None or name == "token"
        html = self._environment.get_template(f"{name}.html").render(
            root=request.scope["root_path"],
            texts=texts(),
            version=__version__,
            site=self._context.site.name if known else "",
            **{"page": name, **values},
        )
        return HTMLResponse(html, status)

    async def page(self, request: Request) -> Response:
        """Answer with a page, or send its visitor to the login."""
        root = request.scope["root_path"]
        path = request.scope["path"][len(root) :]
        token = request.query_params.get("token")
        if path == "/" and token is not None:  # also with a cookie, whose proof may be lost
            return self._by_token(request, token)
        if identity_of(request) is None:
            return RedirectResponse(f"{root}/login", 303)
        if self._context.safe_mode and path != "/health":
            return self._render(request, "safe")
        return self._render(request, "page", page=PAGES[path])

    def _by_token(self, request: Request, token: str) -> Response:
        """Begin a session with the token of the printed address."""
        door: Door = request.scope["cstl_edge.door"]
        caller = caller_of_request(request)
        wait_s = door.sessions.wait_s("admin", caller.address)
        if wait_s > 0:
            return too_many(wait_s).response()
        attempt = door.sessions.count_failure("admin", caller.address)
        account = door.accounts.by_token(token)
        if account is None:
            return self._render(request, "login", 401, error=texts()["login.wrong_token"])
        door.sessions.forgive(attempt)
        before = identity_of(request)
        if before is not None and before.kind == "session":
            door.sessions.revoke(before.session)
        who, cookie = begin_session(door, account, caller, request)
        response = self._render(request, "token", proof=who.proof or "")
        response.headers.append("set-cookie", cookie)
        return response

    async def login(self, request: Request) -> Response:
        """Answer with the login."""
        return self._render(request, "login", error="")

    async def favicon(self, request: Request) -> Response:
        """Answer with where the icon is."""
        return RedirectResponse(f"{request.scope['root_path']}/static/icon.svg", 301)

    async def missing(self, request: Request) -> Response:
        """Answer that there is no such page."""
        return PlainTextResponse(texts()["missing"], 404)
