"""uvicorn for the page: a socket with small buffers, no proxy headers, and streams that end.

A client that stops reading leaves 4 MB in kernel buffers by default, shown stale when it comes
back; `SO_SNDBUF` makes that some pictures. `TCP_USER_TIMEOUT` ends connections whose peer is gone.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.types import Scope

from cstl_edge.errors import ConfigError, one_line
from cstl_edge.extras import missing_package
from cstl_edge.foreign import read_bytes
from cstl_edge.serve.web.settings import PageSettings

if TYPE_CHECKING:
    import uvicorn

SEND_BUFFER_BYTES = 128 * 1024  # about nine pictures of 640x360
GONE_MS = 30_000  # after which unacknowledged data ends a connection
MAX_MESSAGE_BYTES = 64 * 1024  # from a page, by WebSocket
MAX_HEADERS_BYTES = 32 * 1024
MAX_CONNECTIONS = 400
SILENT_S = 20.0  # until a connection has to have asked for something
SHUTDOWN_S = 2  # for answers under way; streams end by themselves
MAX_PEM_BYTES = 2**20
logger = logging.getLogger(__name__)


def open_socket(settings: PageSettings) -> socket.socket:
    """Return the listening socket (ConfigError: the address cannot be used)."""
    host = settings.host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as err:
        raise _refused(settings, err) from err
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_MS)
        listener.bind(address)
        listener.listen(128)
    except OSError as err:
        listener.close()
        raise _refused(settings, err) from err
    return listener


def _refused(settings: PageSettings, err: OSError) -> ConfigError:
    place = f"{settings.host}:{settings.port}"
    return ConfigError(
        f"page: cannot listen on {place}: {one_line(err.strerror or err)}",
        remedy="stop what listens there, or choose another page.port or page.host",
    )


def make_server(app: Starlette, settings: PageSettings) -> uvicorn.Server:
    """Return uvicorn's server; run it with `await server.serve(sockets=[open_socket(settings)])`.

    Args:
        app: Of `create_app`.
        settings: Of the page.

    Raises:
        MissingPackage: The extra `serve` is not installed.
        ConfigError: Certificate or key cannot be used.
    """
    try:
        import uvicorn
    except ImportError as err:
        raise missing_package("cstl-edge serve needs uvicorn", "serve") from err
    config = uvicorn.Config(
        app,
        http="h11",
        ws="websockets-sansio",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,  # addresses hold tokens and signatures
        proxy_headers=False,  # believed from nobody but `proxy.from`, by the door
        server_header=False,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # JPEG does not shrink
        h11_max_incomplete_event_size=MAX_HEADERS_BYTES,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=SHUTDOWN_S,
        ssl_certfile=_pem(settings, "cert"),
        ssl_keyfile=_pem(settings, "key"),
    )
    try:
        config.load()
    except (ssl.SSLError, OSError) as err:
        raise ConfigError(
            f"page.tls: certificate and key cannot be used: {one_line(err)}",
            remedy="give a PEM certificate with its chain, and its key without a passphrase",
        ) from err
    server = uvicorn.Server(config)
    app.state.server, app.state.drop = server, partial(drop, server)
    app.state.look = SilentConnections(server).look
    return server


class SilentConnections:
    """Ends connections that ask for nothing: uvicorn waits for a first request for ever."""

    def __init__(self, server: uvicorn.Server) -> None:
        """Watch a server."""
        self._server = server
        self._since: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()

    def look(self) -> None:
        """End whatever has been silent for too long; called every few seconds."""
        now = time.monotonic()
        for connection in list(self._server.server_state.connections):
            if getattr(connection, "cycle", self) is not None:  # it has asked, or is no HTTP
                self._since.pop(connection, None)
            elif now - self._since.setdefault(connection, now) > SILENT_S:
                connection.transport.abort()


def drop(server: uvicorn.Server, scope: Scope) -> None:
    """End a connection whose client stopped reading, with what waits for it.

    server: that has the connection
    scope: of the request
    """
    for connection in list(server.server_state.connections):
        if getattr(connection, "client", None) == scope.get("client"):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                logger.info("a page that stopped reading is dropped: %s", scope.get("client"))
                transport.abort()


def _pem(settings: PageSettings, name: str) -> str | None:
    """Return the file of certificate or key, looked at first: uvicorn's error is a traceback."""
    if settings.tls is None:
        return None
    path = settings.tls.cert if name == "cert" else settings.tls.key
    if b"-----BEGIN" not in read_bytes(path, MAX_PEM_BYTES, "a PEM file", ConfigError):
        raise ConfigError(f"page.tls.{name}: {one_line(path)} is no PEM file")
    return str(path)
