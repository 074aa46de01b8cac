"""REST of the door: login, who am I, sessions and their end, the audit log."""

from __future__ import annotations

from datetime import datetime, timezone

from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from cstl_edge.live.events import utc_text
from cstl_edge.serve.web.accounts import Account
from cstl_edge.serve.web.door import Door, set_cookie, too_many
from cstl_edge.serve.web.identity import Identity
from cstl_edge.serve.web.origins import Caller
from cstl_edge.serve.web.problems import ProblemError
from cstl_edge.serve.web.rest.models import AuditQuery, AuditView, LoginBody, SessionView, WhoAmI
from cstl_edge.serve.web.rest.operations import Call, Operation
from cstl_edge.serve.web.sessions import LONGEST_S

WHO = TypeAdapter(WhoAmI)


async def log_in(call: Call) -> Response:
    """Begin a session by name and password, or by token."""
    body: LoginBody = call.body
    door, caller = call.door, caller_of_request(call.request)
    user = "admin" if body.token is not None else body.user
    wait_s = door.sessions.wait_s(user, caller.address)
    if wait_s > 0:
        raise too_many(wait_s)
    attempt = door.sessions.count_failure(user, caller.address)
    account = await _account(door, body)
    if account is None:
        await note(call, "login-failed", user, f"from {caller.address}")
        raise ProblemError(401, "wrong-login", "Name and password do not fit.")
    door.sessions.forgive(attempt)
    await note(call, "login", account.name, f"from {caller.address}")
    who, cookie = begin_session(door, account, caller, call.request)
    response = Response(WHO.dump_json(who), media_type="application/json")
    response.headers.append("set-cookie", cookie)
    return response


async def _account(door: Door, body: LoginBody) -> Account | None:
    """Return the user of a login, None where it does not fit."""
    if body.token is not None:
        return door.accounts.by_token(body.token)
    if body.password is None:
        return None
    by_token = door.accounts.by_token(body.password)  # pasted into the only field there is
    if by_token is not None and by_token.name == body.user:
        return by_token
    if not door.accounts.have_passwords:
        return None
    async with door.hashing:
        return await run_in_threadpool(door.accounts.by_password, body.user, body.password)


def begin_session(
    door: Door, account: Account, caller: Caller, request: Request
) -> tuple[WhoAmI, str]:
    """Begin a session; return what its page has to know, and the `Set-Cookie` header.

    Args:
        door: Of the page.
        account: Who.
        caller: From where.
        request: With the name of the browser.
    """
    agent = request.headers.get("user-agent", "")
    value = door.sessions.create(account.name, door.fingerprint(account), caller.address, agent)
    idle_s = door.settings.session_minutes * 60.0
    row = door.sessions.find(value, idle_s)
    who = who_is(door, Identity(account, "session", row.id if row else ""), with_proof=True)
    return who, set_cookie(caller, value, int(LONGEST_S))


def who_is(door: Door, identity: Identity, *, with_proof: bool) -> WhoAmI:
    """Return an identity as REST tells it.

    Args:
        door: Of the page.
        identity: Who.
        with_proof: True at the beginning of a session alone, and for a proxy's user.
    """
    return WhoAmI(
        user=identity.user,
        role=identity.account.role,
        kind=identity.kind,
        cameras=identity.account.cameras,
        proof=door.sessions.proof(identity.session) if with_proof else None,
        session_minutes=door.settings.session_minutes,
    )


async def get_session(call: Call) -> WhoAmI:
    """Return who this is."""
    return who_is(call.door, call.identity, with_proof=call.identity.kind == "proxy")


async def log_out(call: Call) -> Response:
    """End this session."""
    if call.identity.kind == "session":
        call.door.sessions.revoke(call.identity.session)
        await note(call, "logout", call.identity.user, "")
    response = Response(status_code=204)
    gone = set_cookie(caller_of_request(call.request), "", 0)
    response.headers.append("set-cookie", gone)
    return response


async def list_sessions(call: Call) -> tuple[SessionView, ...]:
    """Return every login."""
    return tuple(
        SessionView(
            id=row.id,
            user=row.user,
            created_utc=_utc(row.created),
            seen_utc=_utc(row.seen),
            address=row.address,
            agent=row.agent,
            current=row.id == call.identity.session,
        )
        for row in call.door.sessions.all()
    )


async def revoke_session(call: Call) -> None:
    """End a login."""
    if not call.door.sessions.revoke(call.path("session")):
        raise ProblemError(404, "not-found", "There is no such login.")
    await note(call, "logout-other", call.path("session")[:12], "")


async def list_audit(call: Call) -> AuditView:
    """Return who named, exported or erased whom."""
    query: AuditQuery = call.query
    return AuditView(rows=await call.read(lambda reader: reader.audit(query.before, query.limit)))


async def note(call: Call, action: str, subject: str, detail: str) -> None:
    """Write a row of the audit log, where the recogniser is there to write it."""
    user = call.identity.user or subject
    await call.context.command(
        "audit.write",
        {"action": action, "subject": subject[:64], "detail": detail},
        user[:64],
        role=call.identity.account.role,
        timeout_s=1.0,
    )


def caller_of_request(request: Request) -> Caller:
    """Return where a request comes from."""
    caller: Caller = request.scope["cstl_edge.caller"]
    return caller


def _utc(at: float) -> str:
    return utc_text(datetime.fromtimestamp(at, timezone.utc))


OPERATIONS = (
    Operation(
        "POST", "/session", log_in, "session", "Log in", "nobody", body=LoginBody, result=WhoAmI
    ),
    Operation("GET", "/session", get_session, "session", "Tell who I am", "viewer", result=WhoAmI),
    Operation("DELETE", "/session", log_out, "session", "Log out", "viewer"),
    Operation(
        "GET", "/sessions", list_sessions, "session", "List logins", result=tuple[SessionView, ...]
    ),
    Operation("DELETE", "/sessions/{session}", revoke_session, "session", "End a login"),
    Operation(
        "GET",
        "/audit",
        list_audit,
        "session",
        "List who did what",
        query=AuditQuery,
        result=AuditView,
    ),
)
