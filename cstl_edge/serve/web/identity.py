"""Who is behind a request, once the door has let it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.requests import HTTPConnection

from cstl_edge.serve.web.accounts import Account

IdentityKind = Literal["session", "token", "proxy"]


@dataclass(frozen=True)
class Identity:
    """An account, and how it was proven."""

    account: Account
    kind: IdentityKind
    session: str  # id of the session; of a proxy's user `proxy:NAME`; of a token `token:NAME`

    @property
    def user(self) -> str:
        """Name of the user."""
        return self.account.name

    @property
    def is_admin(self) -> bool:
        """Whether this user may change things."""
        return self.account.role == "admin"

    @property
    def sees_all(self) -> bool:
        """Whether this user sees every camera."""
        return self.account.cameras is None


def identity_of(connection: HTTPConnection) -> Identity | None:
    """Return who is behind a request that the door has let in; None on public paths."""
    identity: Identity | None = connection.scope["cstl_edge.identity"]
    return identity
