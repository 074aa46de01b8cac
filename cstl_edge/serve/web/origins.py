"""Host and Origin of a request, and who stands behind a proxy: what a browser cannot forge.

Cookies do not know ports, and DNS rebinding turns any name into 127.0.0.1; so the `Host` has to be
one of ours, and `Origin` and `Sec-Fetch-Site` have to be our own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from cstl_edge.serve.web.settings import ROOT_PATH, PageSettings, is_loopback

DEFAULT_PORTS = {"http": 80, "https": 443}
WILDCARDS = ("0.0.0.0", "::", "[::]")  # not a name by which a browser calls
PREFIX_HEADERS = ("x-ingress-path", "x-forwarded-prefix")  # Home Assistant; Traefik


@dataclass(frozen=True)
class Caller:
    """Where a request comes from and the name it called us by; a trusted proxy is believed."""

    address: str  # of the client
    scheme: str | None  # None: the proxy does not say
    host: str  # with port, as in the header
    via_proxy: bool
    root_path: str
    proxy_user: str | None = None

    @property
    def is_secure(self) -> bool:
        """Whether the browser speaks TLS."""
        return self.scheme == "https"


def caller_of(
    headers: Mapping[str, str],
    client: str,
    scheme: str,
    settings: PageSettings,
) -> Caller:
    """Return who calls; forwarded headers count only from the addresses of `proxy.from`.

    Args:
        headers: Of the request, keys in small letters.
        client: Address of the peer.
        scheme: `http` or `https` of the connection.
        settings: Of the page.
    """
    host = headers.get("host", "")
    proxy = settings.proxy
    if proxy is None or not in_networks(client, proxy.sources):
        return Caller(client, scheme, host, False, settings.root_path)
    forwarded = [part.strip() for part in headers.get("x-forwarded-for", "").split(",")]
    strangers = [a for a in reversed(forwarded) if a and not in_networks(a, proxy.sources)]
    told_scheme = headers.get("x-forwarded-proto", "").split(",")[-1].strip().lower()
    prefixes = [headers[name].rstrip("/") for name in PREFIX_HEADERS if headers.get(name)]
    valid = [prefix for prefix in prefixes if ROOT_PATH.fullmatch(prefix)]
    user = headers.get(proxy.user_header.lower(), "").strip() if proxy.user_header else ""
    return Caller(
        address=strangers[0][:64] if strangers else client,
        scheme=told_scheme if told_scheme in DEFAULT_PORTS else None,
        host=headers.get("x-forwarded-host", "").split(",")[-1].strip() or host,
        via_proxy=True,
        root_path=valid[0] if valid else settings.root_path,
        proxy_user=user or None,
    )


def in_networks(address: str, networks: Iterable[str]) -> bool:
    """Tell whether an address is in one of some networks.

    >>> in_networks("::ffff:172.30.32.2", ["172.30.32.0/24"])
    True
    """
    try:
        ip = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    ip = mapped or ip
    return any(ip in ipaddress.ip_network(network) for network in networks)


def host_name(host: str) -> str:
    """Return the name of a `Host` header without its port, in small letters.

    >>> host_name("[::1]:8765"), host_name("Camera.local:80")
    ('[::1]', 'camera.local')
    """
    name = host.strip().lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0].rstrip(".")


def host_allowed(host: str, server: str | None, settings: PageSettings) -> bool:
    """Tell whether a `Host` header names this page.

    Args:
        host: The header.
        server: Our address of this connection: whoever calls us by it needs no name.
        settings: Of the page.
    """
    name = host_name(host)
    if not name:
        return False
    if is_loopback(name) or name in settings.allowed_hosts:
        return True
    if settings.host not in WILDCARDS and name.strip("[]") == settings.host.strip("[]"):
        return True
    return server is not None and _is_address(server) and name.strip("[]") == server.lower()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def origin_matches(origin: str, caller: Caller) -> bool:
    """Tell whether an `Origin` header is this page itself: its scheme, name and port."""
    parts = urlsplit(origin)
    if parts.scheme not in DEFAULT_PORTS or parts.path or parts.query or parts.username is not None:
        return False
    if caller.scheme is not None and parts.scheme != caller.scheme:
        return False
    return _netloc(parts.netloc, parts.scheme) == _netloc(caller.host, parts.scheme)


def _netloc(netloc: str, scheme: str) -> tuple[str, str]:
    name = host_name(netloc)
    port = netloc.strip().lower()[len(name) :].lstrip(".").removeprefix(":")
    return name, port or str(DEFAULT_PORTS[scheme])


def same_origin(headers: Mapping[str, str], caller: Caller) -> bool | None:
    """Tell whether our own page sent a request, None where the browser does not say.

    Args:
        headers: Of the request, keys in small letters.
        caller: Of the request.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if origin is not None and not origin_matches(origin, caller):
        return False
    if site is not None and site not in ("same-origin", "none"):
        return False
    if site == "same-origin" or origin is not None:
        return True
    return None
