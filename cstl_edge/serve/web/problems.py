"""Errors of REST and door as problem details (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cstl_edge.errors import CstlEdgeError, one_line
from cstl_edge.serve.messages import Reply

MEDIA_TYPE = "application/problem+json"
STATUS_OF_EXIT_CODE = {2: 422, 3: 422, 4: 503, 5: 503, 6: 503}  # of our own errors
STATUS_OF_CODE = {  # of a `Reply`; others are 422: the request was understood and refused
    "timeout": 504,
    "away": 503,
    "not-found": 404,
    "conflict": 409,
    "busy": 409,
    "disabled": 409,
    "full": 507,
    "internal": 500,
    "unknown-command": 501,
}


class ProblemError(Exception):
    """An answer that is an error: status, code for programs, sentences for people."""

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Hold an error.

        Args:
            status: Of HTTP.
            code: Word for programs; the end of the member `type`.
            title: What is wrong, in a sentence.
            detail: More, or what to do.
            headers: Further headers of the answer.
        """
        super().__init__(title)
        self.status, self.code, self.title, self.detail = status, code, title, detail
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """Return the problem's members."""
        members: dict[str, object] = {
            "type": f"urn:cstl-edge:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
        }
        return members | ({"detail": self.detail} if self.detail else {})

    def response(self) -> Response:
        """Return the answer."""
        body = json.dumps(self.body(), ensure_ascii=False)
        return Response(body, self.status, self.headers, MEDIA_TYPE)

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, to a WebSocket's handshake as well."""
        if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
            await self.response()(scope, receive, send)
        else:
            await send(
                {"type": "websocket.close", "code": 4000 + self.status, "reason": self.title}
            )


def problem_of(err: Exception) -> ProblemError:
    """Return the answer to an exception; of what is no error of ours nothing is told."""
    if isinstance(err, ProblemError):
        return err
    if isinstance(err, CstlEdgeError):
        status = STATUS_OF_EXIT_CODE.get(err.exit_code, 500)
        return ProblemError(status, err.code, one_line(err.message, 500), err.remedy)
    return ProblemError(500, "internal", "A mistake of cstl-edge itself.", "The log says more.")


def problem_of_reply(reply: Reply) -> ProblemError:
    """Return the answer to a command that was refused."""
    code = reply.code or "refused"
    status = STATUS_OF_CODE.get(code, 422)
    return ProblemError(status, code, one_line(reply.message or HTTPStatus(status).phrase, 500))
