"""The door of the page: Host, Origin, identity and proof of every request, before any route.

Order: Host (DNS rebinding), trusted proxy, cross-site requests, identity, proof. What is not listed
in `PUBLIC` needs an identity. Every answer gets the security headers.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cstl_edge.errors import CstlEdgeError
from cstl_edge.serve.web.accounts import Account, Accounts, admin_token
from cstl_edge.serve.web.identity import Identity
from cstl_edge.serve.web.origins import (
    Caller,
    caller_of,
    host_allowed,
    host_name,
    same_origin,
)
from cstl_edge.serve.web.problems import ProblemError, problem_of
from cstl_edge.serve.web.sessions import Sessions
from cstl_edge.serve.web.settings import PageSettings, is_loopback

if TYPE_CHECKING:
    from cstl_edge.serve.site import Site

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
PUBLIC = ("/livez", "/readyz", "/healthz", "/login", "/favicon.ico", "/metrics")  # and /static/
SHELLS = ("/", "/visits", "/unknowns", "/people", "/health", "/login")  # pages without any data
LOGIN = "/api/v1/session"
PROOF_HEADER, PROOF_PROTOCOL = "x-csrf-token", "proof."
CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
        "base-uri 'none'",
        "object-src 'none'",
    )
)
SECURITY_HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class SiteHolder(Protocol):
    """What has the site as it runs: the front's context."""

    @property
    def site(self) -> Site:
        """The site; another object after a reload."""


class Door:
    """ASGI middleware that lets in whom the settings let in."""

    def __init__(self, app: ASGIApp, holder: SiteHolder, sessions: Sessions) -> None:
        """Stand before an application.

        Args:
            app: What is behind the door.
            holder: Has the site, whose users and names count.
            sessions: The logins.
        """
        self.app, self.holder, self.sessions = app, holder, sessions
        self._settings: PageSettings | None = None
        self._accounts: Accounts | None = None
        self.hashing = asyncio.Semaphore(1)  # a login takes 19 MiB

    @property
    def settings(self) -> PageSettings:
        """Settings of the page as they run."""
        return self.holder.site.page

    @property
    def accounts(self) -> Accounts:
        """The users, read anew after a reload (ConfigError: a file of theirs is gone)."""
        settings = self.settings
        if self._accounts is None or settings is not self._settings:
            self._accounts = Accounts(settings, self.holder.site.data)
            self._settings = settings
        return self._accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and hand it on, or answer with what is wrong."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        caller = self._caller(connection)
        inner = _inner_path(scope["path"], caller.root_path)
        scope = {**scope, "root_path": caller.root_path, "path": caller.root_path + inner}
        scope |= {"cstl_edge.caller": caller, "cstl_edge.door": self, "cstl_edge.identity": None}
        sender = _with_headers(send) if scope["type"] == "http" else send
        try:
            self._check_host(connection, caller)
            self._check_origin(scope, connection.headers, caller, inner)
            scope["cstl_edge.identity"] = self._identify(scope, connection, caller, inner)
        except (ProblemError, CstlEdgeError) as err:
            await problem_of(err).respond(scope, receive, sender)
            return
        await self.app(scope, receive, sender)

    def _caller(self, connection: HTTPConnection) -> Caller:
        client = connection.client.host if connection.client else ""
        scheme = {"ws": "http", "wss": "https"}.get(connection.url.scheme, connection.url.scheme)
        return caller_of(connection.headers, client, scheme, self.settings)

    def _check_host(self, connection: HTTPConnection, caller: Caller) -> None:
        """Refuse names that are not ours, and whoever should have come through the proxy."""
        hosts = connection.headers.getlist("host")
        server = connection.scope.get("server")
        names = [*hosts, caller.host] if caller.via_proxy else hosts
        address = server[0] if server else None
        if len(hosts) != 1 or not all(host_allowed(n, address, self.settings) for n in names):
            raise ProblemError(
                421,
                "wrong-host",
                "This page does not answer to this name.",
                "Add it to page.allowed_hosts of the site, or use the address that is printed.",
            )
        settings = self.settings
        bare = settings.tls is None and not settings.is_loopback and not settings.insecure_lan
        if bare and not caller.via_proxy and not is_loopback(caller.address):
            raise ProblemError(403, "proxy-only", "This page is reached through its proxy alone.")

    def _check_origin(self, scope: Scope, headers: Headers, caller: Caller, path: str) -> None:
        """Refuse what other pages send; a link to one of our pages may be followed."""
        own = same_origin(headers, caller)
        if own is False:
            navigates = headers.get("sec-fetch-mode") == "navigate" and "origin" not in headers
            if navigates and scope.get("method") == "GET" and path in SHELLS:
                return
            raise ProblemError(403, "cross-site", "Another page may not use this one.")
        unsafe = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        if unsafe and own is None and bearer(headers) is None:
            raise ProblemError(
                403,
                "no-origin",
                "The request does not say which page sent it.",
                "Programs send `Authorization: Bearer TOKEN`.",
            )

    def _identify(
        self, scope: Scope, connection: HTTPConnection, caller: Caller, path: str
    ) -> Identity | None:
        """Return who it is; ProblemError for nobody who wants more than what is public."""
        public = path in PUBLIC or path.startswith("/static/")
        if public or (path == LOGIN and scope.get("method") == "POST"):
            return None
        identity = self._by_token(connection, caller) or self._by_proxy(caller)
        if identity is None:
            identity = self._by_cookie(connection, caller)
        if identity is None:
            if path in SHELLS and scope["type"] == "http":
                return None  # the page sends its visitor to the login
            raise ProblemError(401, "login-needed", "Log in first.")
        if identity.kind != "token" and path not in SHELLS:
            self._check_proof(scope, connection, identity, path)
        return identity

    def _by_token(self, connection: HTTPConnection, caller: Caller) -> Identity | None:
        token = bearer(connection.headers)
        safe = connection.scope.get("method", "GET") in SAFE_METHODS
        token = token or (basic_password(connection.headers) if safe else None)
        if token is None:
            return None
        account = self.accounts.by_token(token)
        if account is None:
            wait_s = self.sessions.wait_s("", caller.address)
            if wait_s > 0:
                raise too_many(wait_s)
            self.sessions.count_failure("", caller.address)
            raise ProblemError(401, "wrong-token", "This token is nobody's.")
        return Identity(account, "token", f"token:{account.name}")

    def _by_proxy(self, caller: Caller) -> Identity | None:
        if caller.proxy_user is None:
            return None
        account = self.accounts.by_proxy(caller.proxy_user)
        if account is None:
            raise ProblemError(403, "not-a-user", "The settings list no such user.")
        return Identity(account, "proxy", f"proxy:{account.name}")

    def _by_cookie(self, connection: HTTPConnection, caller: Caller) -> Identity | None:
        for cookie in cookies(connection.headers, cookie_name(caller)):
            row = self.sessions.find(cookie, self.settings.session_minutes * 60.0)
            account = self.accounts.get(row.user) if row else None
            if row and account and self.fingerprint(account) == row.fingerprint:
                return Identity(account, "session", row.id)
        return None

    def _check_proof(
        self, scope: Scope, connection: HTTPConnection, identity: Identity, path: str
    ) -> None:
        """Refuse a cookie without what our own page alone knows: neighbours see the cookie."""
        proof = connection.headers.get(PROOF_HEADER)
        if scope["type"] == "websocket":
            marks = [p for p in scope["subprotocols"] if p.startswith(PROOF_PROTOCOL)]
            proof = marks[0][len(PROOF_PROTOCOL) :] if marks else None
        if proof is not None and self.sessions.proof_matches(identity.session, proof):
            return
        signature = connection.query_params.get("k")
        safe = scope["type"] == "http" and scope["method"] in SAFE_METHODS
        if (
            safe
            and signature is not None
            and self.sessions.signature_matches(identity.session, path, signature)
        ):
            return
        if identity.kind == "proxy" and path == LOGIN and safe:
            return  # where the page of a proxy's user gets its proof
        raise ProblemError(403, "no-proof", "The login of this page is not complete; log in again.")

    def still_valid(self, connection: HTTPConnection, identity: Identity) -> bool:
        """Tell whether the login of an open stream still counts; it counts as use of a session."""
        account = self.accounts.get(identity.user)
        if identity.kind == "session":
            caller = connection.scope["cstl_edge.caller"]
            again = self._by_cookie(connection, caller)
            return again is not None and again.session == identity.session
        if identity.kind == "token":
            return account is not None and account.token == identity.account.token
        return self.accounts.by_proxy(identity.user) == identity.account

    def fingerprint(self, account: Account) -> str:
        """Return what changes with the password and the token of a user."""
        return self.sessions.fingerprint(f"{account.name}\0{account.credential}")


def bearer(headers: Headers) -> str | None:
    """Return the token of an `Authorization: Bearer` header."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" and value.strip() else None


def basic_password(headers: Headers) -> str | None:
    """Return the password of an `Authorization: Basic` header: a token, for players of streams."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        text = base64.b64decode(value.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return text.partition(":")[2] or None


def cookies(headers: Headers, name: str) -> Iterable[str]:
    """Yield the values of a cookie; a neighbour's page can set one of the same name beside ours."""
    for header in headers.getlist("cookie"):
        for part in header.split(";"):
            key, _, value = part.strip().partition("=")
            if key == name and value:
                yield value[:200]


def cookie_name(caller: Caller) -> str:
    """Return the name of our cookie: with the port, for two installations on one host."""
    port = caller.host[len(host_name(caller.host)) :].lstrip(".:")
    return f"cstl_edge_{port if port.isdecimal() else 'default'}"


def set_cookie(caller: Caller, value: str, max_age_s: int) -> str:
    """Return the `Set-Cookie` header of a session; an empty value with 0 removes it.

    Args:
        caller: Of the request.
        value: Of the cookie.
        max_age_s: How long the browser keeps it [s].
    """
    secure = "; Secure" if caller.is_secure else ""
    name, path = cookie_name(caller), caller.root_path or "/"
    return f"{name}={value}; Path={path}; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}"


def too_many(wait_s: float) -> ProblemError:
    """Return the answer to too many failed logins."""
    seconds = int(wait_s) + 1
    return ProblemError(
        429,
        "too-many-logins",
        "Too many failed logins.",
        f"Try again in {seconds} s.",
        headers={"retry-after": str(seconds)},
    )


def login_url(site: Site) -> str:
    """Return the address to print: with the token where the page is reached by one.

    Raises:
        ConfigError: A file of a password or token cannot be read.
        StorageError: The token cannot be written.
    """
    page = site.page
    scheme = "https" if page.tls else "http"
    wildcard = page.host in ("0.0.0.0", "::", "[::]")
    host = "127.0.0.1" if wildcard else page.host
    host = f"[{host.strip('[]')}]" if ":" in host else host
    address = f"{scheme}://{host}:{page.port}{page.root_path}/"
    token = admin_token(page, site.data) if page.is_loopback else None
    return f"{address}?token={token}" if token else address


def _inner_path(path: str, root: str) -> str:
    """Return the path without the prefix, whether the proxy strips it or not."""
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    return path or "/"


def _with_headers(send: Send) -> Send:
    """Return a `send` that adds the security headers, and `no-store` where nothing else is said."""

    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return sender
