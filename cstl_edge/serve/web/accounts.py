"""Accounts of the page: users of the settings with their passwords, tokens, roles and cameras."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cstl_edge.credentials import fill_in
from cstl_edge.errors import ConfigError
from cstl_edge.output import PRIVATE, write_file
from cstl_edge.serve.web.passwords import (
    hash_password,
    read_password_line,
    read_secret,
    read_token,
    verify_password,
)
from cstl_edge.serve.web.settings import MIN_TOKEN, PageSettings, Role, UserSettings

ADMIN = "admin"  # the user of `page.password_file` and `page.token`
TOKEN_NAME = "token"  # file of the token that is made where the settings have no secret


@dataclass(frozen=True)
class Account:
    """One user of the page."""

    name: str
    role: Role
    cameras: tuple[str, ...] | None = None  # None: all
    password_line: str | None = None  # Argon2id
    token: str | None = field(default=None, repr=False)
    credential: str = field(default="", repr=False)  # changes with password and token

    def may_see(self, camera: str) -> bool:
        """Tell whether this user sees a camera."""
        return self.cameras is None or camera in self.cameras


class Accounts:
    """The users of one configuration."""

    def __init__(self, settings: PageSettings, folder: Path) -> None:
        """Read the files of passwords and tokens.

        Args:
            settings: Of the page.
            folder: The site's data folder: without any secret the token in it counts.

        Raises:
            ConfigError: A file cannot be read, or a password or token is too short.
            StorageError: The token cannot be written.
        """
        self._accounts: dict[str, Account] = {}
        if settings.password_file or not _has_secret(settings):
            token = admin_token(settings, folder)
            self._add(
                UserSettings(name=ADMIN, role="admin", password_file=settings.password_file), token
            )
        elif settings.token or settings.token_file:
            self._add(UserSettings(name=ADMIN, role="admin"), admin_token(settings, folder))
        for user in settings.users:
            self._add(user, read_token(user.token_file) if user.token_file else None)
        self._decoy = hash_password(secrets.token_urlsafe(24)) if self.have_passwords else ""
        self._proxy_role = settings.proxy.role if settings.proxy else None

    def _add(self, user: UserSettings, token: str | None) -> None:
        line = read_password_line(user.password_file) if user.password_file else None
        secret = read_secret(user.password_file) if user.password_file else ""
        self._accounts[user.name] = Account(
            user.name, user.role, user.cameras, line, token, credential=f"{secret}\0{token or ''}"
        )

    @property
    def have_passwords(self) -> bool:
        """Whether anybody can log in by name and password."""
        return any(account.password_line for account in self._accounts.values())

    def get(self, name: str) -> Account | None:
        """Return a user by name."""
        return self._accounts.get(name)

    def by_password(self, name: str, password: str) -> Account | None:
        """Return the user of a name and password, None where they do not fit.

        Takes 40 ms of a small CPU and 19 MiB, for a name that there is not, too.
        """
        account = self._accounts.get(name)
        line = account.password_line if account else None
        fits = verify_password(line or self._decoy, password)
        return account if fits and line else None

    def by_token(self, token: str) -> Account | None:
        """Return the user of a token, None where it is nobody's."""
        found = None
        for account in self._accounts.values():  # all of them: time says nothing
            if account.token and hmac.compare_digest(account.token.encode(), token.encode()):
                found = account
        return found

    def by_proxy(self, name: str) -> Account | None:
        """Return the user whom a trusted proxy names, None where the settings refuse them."""
        known = self._accounts.get(name)
        if known is not None:
            return known
        return Account(name[:64], self._proxy_role) if self._proxy_role else None

    @property
    def names(self) -> Mapping[str, Account]:
        """Users by name."""
        return self._accounts


def _has_secret(settings: PageSettings) -> bool:
    users = any(user.password_file or user.token_file for user in settings.users)
    proxy = settings.proxy is not None and settings.proxy.user_header is not None
    return bool(settings.password_file or settings.token or settings.token_file or users or proxy)


def admin_token(settings: PageSettings, folder: Path) -> str | None:
    """Return the token of the user `admin`, made and kept in the data folder where none is set.

    Args:
        settings: Of the page.
        folder: The site's data folder.

    Returns:
        None where the settings have other secrets and no token.

    Raises:
        ConfigError: The token's file or variable is missing.
        StorageError: A new token cannot be written.
    """
    if settings.token is not None:
        token = fill_in(settings.token)
        if len(token) < MIN_TOKEN:
            raise ConfigError(f"page.token: expected at least {MIN_TOKEN} characters")
        return token
    if settings.token_file is not None:
        return read_token(settings.token_file)
    if _has_secret(settings):
        return None
    path = folder / TOKEN_NAME
    if path.exists():
        return read_token(path)
    token = secrets.token_urlsafe(24)
    write_file(path, token + "\n", mode=PRIVATE)
    return token
