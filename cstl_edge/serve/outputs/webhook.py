"""Webhooks after Standard Webhooks 1.0.0: signed, tried again with jitter, switched off by 410.

Source: specification of Standard Webhooks, sections on headers, signatures and retries.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import http.client
import json
import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from cstl_edge import __version__
from cstl_edge.credentials import fill_in
from cstl_edge.errors import ConfigError, one_line
from cstl_edge.serve.outputs.base import OutputHealth, OutputState, OutputThread, Surroundings
from cstl_edge.serve.outputs.outbox import Queued
from cstl_edge.serve.outputs.settings import WebhookSettings
from cstl_edge.serve.store_rows import EventRow

RETRIES_S = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Delays between tries: with the first one ten tries in 75.6 hours."""
JITTER = 0.2  # a delay is longer by up to this share
MAX_RETRY_AFTER_S = 86400.0
PAUSE_S, MAX_PAUSE_S = 5.0, 300.0  # between messages while the receiver fails
SECRET_BYTES = range(24, 65)
GONE = 410

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What a receiver answered; status None where no answer came."""

    status: int | None
    fault: str | None = None
    retry_after_s: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether the message was taken: 2xx."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def sentence(self) -> str:
        """What went wrong, for people."""
        return self.fault or f"the receiver answered {self.status}"


class Webhook:
    """One of `outputs.webhooks`, with a thread of its own."""

    kind = "webhook"

    def __init__(self, settings: WebhookSettings, around: Surroundings) -> None:
        """Begin to send (ConfigError: secrets or address cannot be used)."""
        self.name = f"webhook:{settings.name}"
        self._settings, self._around = settings, around
        self._url = _checked_url(settings)
        self._secrets = [secret_bytes(fill_in(text), self.name) for text in settings.secrets]
        # what switched it off holds for this address and these secrets: other ones begin anew
        facts = repr((self._url, self._secrets)).encode()
        self._off_key = f"{self.name} {hashlib.sha256(facts).hexdigest()[:16]}"
        self._off = around.outbox.off_reason(self._off_key)
        self._failures, self._resume_s, self._fault = 0, 0.0, ""
        self._connection = Connection(self._url, settings.timeout_s)
        self._thread = OutputThread(self.name, self._step)
        self._thread.start()

    def wake(self) -> None:
        """Say that there are new events."""
        self._thread.wake()

    def close(self, within_s: float) -> None:
        """End; a message on its way is cut off and sent again by the next run."""
        self._thread.stopping.set()
        self._connection.cut()
        self._thread.stop(within_s)

    def health(self) -> OutputHealth:
        """Return the state."""
        state: OutputState = "connected"
        reason: str | None = None
        if self._off is not None:
            state, reason = "off", self._off
        elif self._thread.fault is not None:
            state, reason = "failing", self._thread.fault
        elif self._failures:
            state, reason = "failing", self._fault
        return self._around.health(self.name, self.kind, state, reason)

    def _step(self) -> float | None:
        outbox = self._around.outbox
        if self._off is not None:
            outbox.take(self.name, self._around.reader, lambda _row: False, self._settings.queue)
            outbox.clear(self.name)
            return None
        outbox.take(self.name, self._around.reader, self._passes, self._settings.queue)
        wait_s = self._resume_s - time.monotonic()
        if wait_s > 0:
            return wait_s
        due = outbox.due(self.name, 1)
        if not due:
            return None
        rows = self._around.reader.events(due[0].event - 1, 1)
        if not rows or rows[0].id != due[0].event or not self._passes(rows[0]):
            outbox.dropped(self.name, due[0].id, "erased")
            return 0.0
        body = body_of(rows[0])
        headers = headers_of(due[0].uid, int(time.time()), body, self._secrets)
        self._take_answer(due[0], self._connection.post(body, headers))
        return 0.0

    def _passes(self, row: EventRow) -> bool:
        return self._settings.send.passes(row.event)

    def _take_answer(self, queued: Queued, answer: Answer) -> None:
        outbox = self._around.outbox
        if self._thread.stopping.is_set() and answer.status is None:
            return  # cut off by us
        if answer.is_success:
            outbox.acknowledged(self.name, [queued.id])
            if self._failures:
                self._failures = 0
                outbox.hasten(self.name)
            return
        if answer.status == GONE:
            self._off = "the receiver answered 410 Gone; another url or secret switches it on"
            outbox.switch_off(self._off_key, self._off)
            log.warning("%s is off: %s", self.name, self._off)
            return
        if not self._failures:
            log.warning("%s: %s; it is tried again", self.name, answer.sentence)
        self._failures, self._fault = self._failures + 1, answer.sentence
        pause_s = min(PAUSE_S * 2 ** min(self._failures - 1, 16), MAX_PAUSE_S)
        self._resume_s = time.monotonic() + with_jitter(
            pause_s if answer.retry_after_s is None else answer.retry_after_s
        )
        if queued.tries >= len(RETRIES_S):
            outbox.dropped(self.name, queued.id, "refused")
            return
        delay_s = max(RETRIES_S[queued.tries], answer.retry_after_s or 0.0)
        outbox.postpone(queued.id, time.time() + with_jitter(delay_s))


class Connection:
    """Posts to one address; an answer that does not come whole in time is cut off."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Name the address and how long an answer may take in all [s]."""
        self._parts, self._timeout_s = urlsplit(url), timeout_s
        self._open: http.client.HTTPConnection | None = None

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one message and return the answer; never raises for what the network does."""
        target = self._parts.path or "/"
        if self._parts.query:
            target += f"?{self._parts.query}"
        connection = self._connect()
        watchdog = threading.Timer(self._timeout_s, self.cut)
        watchdog.daemon = True
        watchdog.start()
        try:
            connection.request("POST", target, body, dict(headers))
            response = connection.getresponse()
            return Answer(response.status, None, retry_after_s(response.headers))
        except (OSError, http.client.HTTPException, ValueError) as err:
            late = not watchdog.is_alive()
            why = f"no answer within {self._timeout_s:g} s" if late else one_line(err)
            return Answer(None, f"{one_line(self._parts.hostname)}: {why}")
        finally:
            watchdog.cancel()
            self._open = None
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            self._open = http.client.HTTPSConnection(
                host, port, timeout=self._timeout_s, context=context
            )
        else:
            self._open = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        return self._open

    def cut(self) -> None:
        """Break off what is on its way; may be called from any thread."""
        connection = self._open
        sock: socket.socket | None = getattr(connection, "sock", None)
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def body_of(row: EventRow) -> bytes:
    """Return the body: type, time of the event, and the event of schema 2."""
    record = {"type": f"gait.{row.event['event']}", "timestamp": row.utc, "data": row.event}
    return json.dumps(record, ensure_ascii=False).encode()


def headers_of(uid: str, timestamp_s: int, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """Return the headers of a message.

    Args:
        uid: Its id, the same at every try.
        timestamp_s: Unix time of this try.
        body: Bytes as they are sent.
        secrets: Each signs.
    """
    signed = f"{uid}.{timestamp_s}.".encode() + body
    digests = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    return {
        "content-type": "application/json",
        "user-agent": f"cstl-edge/{__version__}",
        "webhook-id": uid,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(x).decode()}" for x in digests),
    }


def secret_bytes(text: str, output: str) -> bytes:
    """Return the bytes of a secret `whsec_BASE64` (ConfigError)."""
    try:
        secret = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not text.startswith("whsec_") or len(secret) not in SECRET_BYTES:
        raise ConfigError(
            f"{output}: expected secrets of whsec_ and base64 of 24 to 64 bytes",
            remedy='make one: echo "whsec_$(openssl rand -base64 32)"',
        )
    return secret


def retry_after_s(headers: Any) -> float | None:
    """Return how long a receiver asks us to wait: seconds or a date, at most a day."""
    text = headers.get("retry-after")
    if text is None:
        return None
    try:
        wait_s = float(text) if text.strip().isdigit() else _until(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)


def _until(date: str) -> float:
    return parsedate_to_datetime(date).timestamp() - time.time()


def with_jitter(delay_s: float) -> float:
    """Return a delay made longer at random, so that senders do not come all at once."""
    return delay_s * (1 + random.uniform(0, JITTER))


def _checked_url(settings: WebhookSettings) -> str:
    url = fill_in(settings.url)
    parts = urlsplit(url)
    try:
        fits = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if fits and "@" in parts.netloc:
        raise ConfigError(
            f"webhook {settings.name}: user and password in an address are not sent; the signature "
            "tells who calls"
        )
    if not fits:
        raise ConfigError(f"webhook {settings.name}: expected an address of http:// or https://")
    return url
