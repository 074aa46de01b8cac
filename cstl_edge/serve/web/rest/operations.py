"""One operation of REST: its route, role, models of body, query and answer; the check of each call.

Every operation stands in a table of its module; routes, roles and the OpenAPI description are all
made from these tables, so none can be forgotten.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cstl_edge.errors import one_line
from cstl_edge.serve.context import FrontContext
from cstl_edge.serve.reader import Reader
from cstl_edge.serve.web.accounts import Account
from cstl_edge.serve.web.door import Door
from cstl_edge.serve.web.identity import Identity, identity_of
from cstl_edge.serve.web.problems import ProblemError, problem_of, problem_of_reply
from cstl_edge.serve.web.settings import Role

PREFIX = "/api/v1"
MAX_BODY = 64 * 1024  # bytes of a JSON body
Value = TypeVar("Value")
NOBODY = Identity(Account("", "viewer", ()), "token", "")  # before the login
logger = logging.getLogger(__name__)


class Wire(BaseModel):
    """Base of the bodies and queries of REST: an unknown member is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True)
class Call:
    """One call of an operation, checked."""

    request: Request
    context: FrontContext
    identity: Identity
    body: Any = None  # of the operation's model
    query: Any = None

    @property
    def door(self) -> Door:
        """The door that let it in."""
        return cast("Door", self.request.scope["cstl_edge.door"])

    @property
    def reader(self) -> Reader:
        """The store, to read."""
        return Reader(self.context.site.data)

    def path(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])

    def check_camera(self, camera: str | None) -> None:
        """Refuse a camera that there is not, or that this user may not see: the same answer."""
        if camera not in self.context.site.cameras or not self.identity.account.may_see(camera):
            raise ProblemError(404, "not-found", "There is no such camera.")

    def cameras(self, camera: str | None = None) -> tuple[str, ...] | None:
        """Return the cameras to filter by: one that was asked for, or those of this user."""
        if camera is not None:
            self.check_camera(camera)
            return (camera,)
        return self.identity.account.cameras

    def link(self, path: str) -> str:
        """Return an address for `<img>` and `<video>`, which send no header: signed for a session.

        path: below the page's root, such as `/api/v1/media/1`
        """
        address = f"{self.request.scope['root_path']}{path}"
        if self.identity.kind == "token":
            return address
        return f"{address}?k={self.door.sessions.sign(self.identity.session, path)}"

    async def read(self, query: Callable[[Reader], Value]) -> Value:
        """Return what a query of the store returns; it runs in a thread."""
        return await run_in_threadpool(query, self.reader)

    async def command(self, name: str, arguments: Mapping[str, Any], timeout_s: float = 10) -> Any:
        """Return the result of a command; ProblemError where it is refused.

        Args:
            name: Such as `people.rename`.
            arguments: JSON values.
            timeout_s: How long to wait [s].
        """
        account = self.identity.account
        reply = await self.context.command(
            name, arguments, account.name, role=account.role, timeout_s=timeout_s
        )
        if not reply.ok:
            raise problem_of_reply(reply)
        return reply.result


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True)
class Operation:
    """One row of REST's table."""

    method: str
    path: str  # below `/api/v1`, with `{name}` for its parts
    handler: Handler
    tag: str
    summary: str  # imperative, without a full stop
    role: Role | Literal["nobody"] = "admin"  # the least that is needed
    body: type[Wire] | None = None
    query: type[Wire] | None = None
    result: Any = None  # type of the answer; None for an answer without a body
    media_type: str | None = None  # of an answer that is not JSON
    upload: bool = False  # the body is a video

    def route(self, context: FrontContext) -> Route:
        """Return the route of this operation."""
        adapter = TypeAdapter(self.result) if self.result is not None else None

        async def endpoint(request: Request) -> Response:
            try:
                call = await self._call(request, context)
                result = await self.handler(call)
            except Exception as err:
                problem = problem_of(err)
                if problem.status == 500:
                    logger.exception("%s %s", self.method, self.path)
                return problem.response()
            if isinstance(result, Response):
                return result
            if adapter is None:
                return Response(status_code=204)
            return Response(adapter.dump_json(result), media_type="application/json")

        endpoint.__name__ = self.id
        return Route(PREFIX + self.path, endpoint, methods=[self.method], name=self.id)

    @property
    def id(self) -> str:
        """Name of the operation, from its handler."""
        return self.handler.__name__.strip("_")

    async def _call(self, request: Request, context: FrontContext) -> Call:
        """Return the call with its role, query and body checked (ProblemError)."""
        identity = identity_of(request)
        if identity is None:
            if self.role != "nobody":
                raise ProblemError(401, "login-needed", "Log in first.")
            identity = NOBODY
        if self.role == "admin" and not identity.is_admin:
            raise ProblemError(403, "not-allowed", "Your role does not allow this.")
        query = self.query and _checked(self.query, _query(request), "query")
        body = self.body and _checked(self.body, await _json(request), "body")
        return Call(request, context, identity, body, query)


def _query(request: Request) -> dict[str, str]:
    """Return the query without the signature; twice the same key is an error."""
    items = [(key, value) for key, value in request.query_params.multi_items() if key != "k"]
    values = dict(items)
    if len(values) != len(items):
        raise ProblemError(422, "query", "A key of the query is given twice.")
    return values


async def _json(request: Request) -> Any:
    """Return the JSON body, refused as soon as it is too long (ProblemError)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a form of another page cannot send this type
        raise ProblemError(415, "content-type", "Expected a body of application/json.")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise ProblemError(413, "too-large", f"Expected a body of at most {MAX_BODY} bytes.")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as err:
        raise ProblemError(422, "body", "The body is no JSON.", one_line(err)) from err


def _checked(model: type[Wire], values: Any, what: str) -> Wire:
    """Return values as a model; the problem names every member that does not fit."""
    try:
        return model.model_validate(values)
    except ValidationError as err:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or what}: {fault['msg']}" for fault in err.errors()
        ]
        raise ProblemError(
            422, what, f"The {what} does not fit.", one_line("; ".join(faults), 500)
        ) from err
