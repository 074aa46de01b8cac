"""Clients of the wall: they read all cameras over one WebSocket each, or stop reading."""

from __future__ import annotations

import json
import multiprocessing
import struct
import time
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from typing import Any

FPS = 10


class Viewers:
    """Some clients in one process of their own, so that they cost the benchmark no thread."""

    def __init__(self, port: int, token: str, cameras: list[str], count: int) -> None:
        """Start clients that read and acknowledge every picture.

        Args:
            port: Of the page.
            token: Bearer token.
            cameras: Whose pictures they want.
            count: Of clients.
        """
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_read_wall, args=(theirs, port, token, cameras, count), daemon=True
        )
        self._process.start()

    def end(self) -> dict[str, Any]:
        """End them; return pictures per second and how old they were [ms]."""
        self._ours.send("end")
        result: dict[str, Any] = (
            self._ours.recv() if self._ours.poll(30) else {"fault": "no answer"}
        )
        self._process.join(10)
        return result

    def kill(self) -> None:
        """End them without a word to the server."""
        self._process.kill()
        self._process.join(10)


def _read_wall(pipe: Connection, port: int, token: str, cameras: list[str], count: int) -> None:
    import asyncio

    asyncio.run(_read_all(pipe, port, token, cameras, count))


async def _read_all(
    pipe: Connection, port: int, token: str, cameras: list[str], count: int
) -> None:
    import asyncio

    ages_ms: list[float] = []
    lost = [0]
    clients = [
        asyncio.create_task(_client(port, token, cameras, ages_ms, lost)) for _ in range(count)
    ]
    began_s = time.monotonic()
    while not pipe.poll():
        await asyncio.sleep(0.2)
    seconds = time.monotonic() - began_s
    for client in clients:
        client.cancel()
    ages_ms.sort()

    def at(share: float) -> float | None:
        return round(ages_ms[int(share * (len(ages_ms) - 1))], 1) if ages_ms else None

    pipe.send(
        {
            "clients": count,
            "pictures_per_s": round(len(ages_ms) / seconds, 2),
            "picture_age_ms": {"p50": at(0.5), "p99": at(0.99)},
            "connections_lost": lost[0],
        }
    )


async def _client(
    port: int, token: str, cameras: list[str], ages_ms: list[float], lost: list[int]
) -> None:
    """Read for ever; a connection that is lost is opened again."""
    import asyncio

    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    while True:
        try:
            async with connect(
                f"ws://127.0.0.1:{port}/live",
                additional_headers={"authorization": f"Bearer {token}"},
                max_size=2**24,
                compression=None,
                proxy=None,
            ) as socket:
                wanted = {"watch": dict.fromkeys(cameras, "boxes"), "fps": FPS}
                await socket.send(json.dumps(wanted))
                async for message in socket:
                    if isinstance(message, bytes):
                        header = _header(message)
                        seen = datetime.fromisoformat(header["utc"])
                        age = datetime.now(timezone.utc) - seen
                        ages_ms.append(age.total_seconds() * 1e3)
                        await socket.send(json.dumps({"ack": header["camera"]}))
        except (OSError, WebSocketException):
            pass
        lost[0] += 1
        await asyncio.sleep(1)


def _header(message: bytes) -> dict[str, Any]:
    (length,) = struct.unpack(">H", message[:2])
    header: dict[str, Any] = json.loads(message[2 : 2 + length])
    return header


class DeafClients:
    """Clients that ask for pictures and then read nothing: sockets whose buffers fill up."""

    def __init__(self, port: int, token: str, cameras: list[str], count: int) -> None:
        """Open them.

        Args:
            port: Of the page.
            token: Bearer token.
            cameras: Whose pictures they ask for.
            count: Of clients.
        """
        from websockets.sync.client import connect

        self._sockets = []
        for _ in range(count):
            socket = connect(
                f"ws://127.0.0.1:{port}/live",
                additional_headers={"authorization": f"Bearer {token}"},
                compression=None,
                proxy=None,
                max_queue=1,
            )
            socket.send(json.dumps({"watch": dict.fromkeys(cameras, "boxes"), "fps": FPS}))
            self._sockets.append(socket)

    def close(self) -> None:
        """Close what is still open."""
        for socket in self._sockets:
            socket.close_socket()
