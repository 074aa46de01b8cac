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


def page_routes(context: FrontContext) -> list[Route | Mount]:
    """Return the routes of pages and static files."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def render(request: Request, name: str, status: int = 200, **values: object) -> Response:
        template = environment.get_template(f"{name}.html")
        html = template.render(
            root=request.scope["root_path"],
            texts=texts(),
            version=__version__,
            site=context.site.name if identity_of(request) or name == "token" else "",
            **values,
        )
        return HTMLResponse(html, status)

    async def page(request: Request) -> Response:
        path = request.scope["path"][len(request.scope["root_path"]) :]
        if identity_of(request) is None:
            token = request.query_params.get("token")
            if path == "/" and token is not None:
                return _by_token(request, token)
            return RedirectResponse(f"{request.scope['root_path']}/login", 303)
        if context.safe_mode and path != "/health":
            return render(request, "safe", page="safe")
        if "token" in request.query_params:  # a bookmark of the printed address
            return RedirectResponse(f"{request.scope['root_path']}/", 303)
        return render(request, "page", page=PAGES[path])

    def _by_token(request: Request, token: str) -> Response:
        door: Door = request.scope["cstl_edge.door"]
        caller = caller_of_request(request)
        wait_s = door.sessions.wait_s("admin", caller.address)
        if wait_s > 0:
            return too_many(wait_s).response()
        attempt = door.sessions.count_failure("admin", caller.address)
        account = door.accounts.by_token(token)
        if account is None:
            return render(request, "login", 401, page="login", error=texts()["login.wrong_token"])
        door.sessions.forgive(attempt)
        who, cookie = begin_session(door, account, caller, request)
        response = render(request, "token", page="token", proof=who.proof)
        response.headers.append("set-cookie", cookie)
        return response

    async def login(request: Request) -> Response:
        return render(request, "login", page="login", error="")

    async def favicon(request: Request) -> Response:
        return RedirectResponse(f"{request.scope['root_path']}/static/icon.svg", 301)

    async def missing(request: Request) -> Response:
        return PlainTextResponse("There is no such page.", 404)

    return [
        *(Route(path, page, methods=["GET"]) for path in PAGES),
        Route("/login", login, methods=["GET"]),
        Route("/favicon.ico", favicon, methods=["GET"]),
        Mount("/static", OwnFiles(directory=STATIC), name="static"),
        Route("/{path:path}", missing, methods=["GET"]),
    ]
