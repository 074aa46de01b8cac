"""Settings of the page (`page:` in a site): where it listens, and who may come in."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from cstl_edge.config import StrictModel

MIN_PASSWORD, MAX_PASSWORD = 15, 256  # characters; NIST 800-63B-4 asks for 15 and up to 64 at least
MIN_TOKEN = 22  # characters; base64 of 128 bits
MIB = 2**20
HOST = re.compile(
    r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\.?|\[[0-9a-f:.]+\]|[0-9a-f:]+", re.IGNORECASE
)
ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")
PLACEHOLDER = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")  # a secret that is not in the file
USER_NAME = re.compile(r"[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]{0,62}[^\s\x00-\x1f\x7f])?")

Role = Literal["viewer", "admin"]


def _is_host(text: str) -> str:
    if not HOST.fullmatch(text):
        raise ValueError(
            "expected a host name or an address without port, such as camera.home.arpa"
        )
    return text.lower()


def _is_root_path(text: str) -> str:
    if not ROOT_PATH.fullmatch(text):
        raise ValueError("expected a path such as /gait, without a slash at its end")
    return text


def _is_network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as err:
        raise ValueError("expected an address or a network, such as 172.30.32.2") from err
    return text


def _is_user_name(text: str) -> str:
    if not USER_NAME.fullmatch(text):
        raise ValueError("expected a name of 1 to 64 printable characters")
    return text


def _is_token(text: str) -> str:
    if PLACEHOLDER.fullmatch(text):
        return text
    if len(text) < MIN_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"expected at least {MIN_TOKEN} letters, digits or signs without spaces")
    return text


HostName = Annotated[str, AfterValidator(_is_host)]
Network = Annotated[str, AfterValidator(_is_network)]
UserName = Annotated[str, AfterValidator(_is_user_name)]
Token = Annotated[str, AfterValidator(_is_token)]


class TlsSettings(StrictModel):
    """Certificate of the page."""

    cert: Path
    """PEM file with the certificate and its chain."""
    key: Path
    """PEM file with the private key, readable by the service alone."""


class ProxySettings(StrictModel):
    """A reverse proxy in front of the page."""

    sources: tuple[Network, ...] = Field(alias="from", min_length=1)
    """Addresses or networks of the proxy. Forwarded headers of anybody else are ignored."""
    user_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = None
    """Header in which the proxy names the user it let in, such as Remote-User. Null where users log
    in here."""
    role: Role | None = "viewer"
    """Role of users whom the proxy names and `users` does not list; null refuses them."""


class UserSettings(StrictModel):
    """One user of the page."""

    name: UserName
    """Name at the login."""
    role: Role = "viewer"
    """`viewer` looks; `admin` also names, enrols, exports and erases."""
    password_file: Path | None = None
    """File with the password, or with the line that `cstl-edge config password` prints."""
    token_file: Path | None = None
    """File with a token for programs (`Authorization: Bearer`)."""
    cameras: tuple[str, ...] | None = None
    """Cameras that this user sees; null for all."""


class PageSettings(StrictModel):
    """Where the page listens, and who may come in."""

    host: HostName = "127.0.0.1"
    """Address to listen on; anything but a loopback address needs a password, a token or a proxy,
    and TLS or a proxy."""
    port: int = Field(default=8765, ge=1, le=65535)
    """TCP port."""
    root_path: Annotated[str, AfterValidator(_is_root_path)] = ""
    """Path below which a proxy shows the page, such as /gait."""
    allowed_hosts: tuple[HostName, ...] = ()
    """Further names by which browsers reach the page (`Host` header). Loopback names and `host` are
    always allowed; anything else is refused, against DNS rebinding."""
    password_file: Path | None = None
    """File with the password of the user `admin`, 15 characters or more, or with the line that
    `cstl-edge config password` prints."""
    token: Token | None = None
    """Token of the user `admin` for programs, such as `{CSTL_EDGE_TOKEN}`."""
    token_file: Path | None = None
    """File with that token. Without any password or token one is made at the first start and kept
    in `data`."""
    users: tuple[UserSettings, ...] = ()
    """Further users."""
    tls: TlsSettings | None = None
    """Certificate; null for plain HTTP."""
    proxy: ProxySettings | None = None
    """Reverse proxy in front of the page."""
    insecure_lan: bool = False
    """True to serve plain HTTP to the network all the same: passwords and pictures can be read by
    everybody on it."""
    session_minutes: int = Field(default=1200, ge=5, le=43200)
    """Minutes without use after which a login ends."""
    max_upload_mb: int = Field(default=200, ge=1, le=4096)
    """Largest video that may be dropped on the page [MiB]."""
    max_fps: float = Field(default=10.0, gt=0, le=30)
    """Pictures per second and camera of the wall, at most."""
    max_viewers: int = Field(default=64, ge=1, le=1000)
    """Live connections at once, at most."""

    @model_validator(mode="after")
    def _check(self) -> PageSettings:
        names = [user.name for user in self.users]
        if len(names) != len(set(names)):
            raise ValueError("two users have the same name")
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file are both given; leave one out")
        if "admin" in names and (self.password_file or self.token or self.token_file):
            raise ValueError(
                "the user `admin` is given twice: under users, and by password_file or token"
            )
        proxy_logs_in = self.proxy is not None and self.proxy.user_header is not None
        for user in self.users:
            if not (user.password_file or user.token_file or proxy_logs_in):
                raise ValueError(f"the user {user.name} has neither password_file nor token_file")
        if not self.is_loopback:
            self._check_network()
        return self

    def _check_network(self) -> None:
        """Refuse an address of the network without a door (ValueError)."""
        has_user_door = self.proxy is not None and self.proxy.user_header is not None
        secrets: list[object] = [self.password_file, self.token, self.token_file]
        for user in self.users:
            secrets += [user.password_file, user.token_file]
        if not has_user_door and not any(secrets):
            raise ValueError(
                f"host {self.host} is not a loopback address: give password_file, token_file, or a "
                "proxy with user_header"
            )
        if self.tls is None and self.proxy is None and not self.insecure_lan:
            raise ValueError(
                f"host {self.host} is not a loopback address: give tls (cert and key), or a "
                "proxy that has it, or insecure_lan: true"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the page."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
