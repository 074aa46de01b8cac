"""Connection to an MQTT broker that comes and goes: what was acknowledged, and why it is away."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cstl_edge.credentials import fill_in
from cstl_edge.errors import ConfigError, one_line
from cstl_edge.extras import missing_package
from cstl_edge.serve.outputs.base import OutputState
from cstl_edge.serve.outputs.settings import MqttSettings

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

MIN_DELAY_S, MAX_DELAY_S = 1, 30  # between attempts to connect
CLOSING_S = 1.0  # for the last word, `offline`


class MqttLink:
    """One client at one broker. Publishing never waits; `acknowledged` alone tells what arrived.

    paho keeps what is on its way over a reconnection and sends it again, so that nobody else has
    to; what must outlive the process is the outbox's business. All methods but `close` are called
    from one thread.
    """

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        available: str,
        on_change: Callable[[], None],
    ) -> None:
        """Prepare a connection; nothing is opened yet.

        Args:
            settings: Where the broker is.
            client_id: Name at the broker.
            available: Topic that says `online` while we are, and `offline` by last will.
            on_change: Called from paho's thread when something was acknowledged, came or changed.

        Raises:
            ConfigError: Secrets or certificates cannot be used.
        """
        self._settings, self._available, self._on_change = settings, available, on_change
        self._acknowledged: deque[tuple[int, int]] = deque()
        self.session = 0  # counts connections
        self.state: OutputState = "waiting"
        self.reason: str | None = "not connected yet"
        self.birth_message = threading.Event()
        self._client = self._make_client(client_id)

    def _make_client(self, client_id: str) -> Client:
        try:
            from paho.mqtt.client import Client, MQTTv311
            from paho.mqtt.enums import CallbackAPIVersion
        except ModuleNotFoundError as err:
            raise missing_package("MQTT needs paho-mqtt", "serve") from err
        settings = self._settings
        client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTv311)
        if settings.login is not None:
            user, colon, password = fill_in(settings.login).partition(":")
            if not colon:
                raise ConfigError("outputs.mqtt.login: expected USER:PASSWORD")
            client.username_pw_set(user, password)
        if settings.tls is not None:
            client.tls_set_context(settings.tls.context())
        client.will_set(self._available, "offline", qos=1, retain=True)
        client.reconnect_delay_set(MIN_DELAY_S, MAX_DELAY_S)
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_connect_fail, client.on_publish = self._not_reached, self._published
        client.on_message = self._message
        return client

    @property
    def broker(self) -> str:
        """Name of the broker: host and port."""
        return f"{self._settings.host}:{self._settings.port_number}"

    def start(self) -> None:
        """Connect, now or when the broker comes."""
        settings = self._settings
        self._client.connect_async(settings.host, settings.port_number, settings.keepalive_s)
        self._client.loop_start()

    def publish(self, topic: str, payload: str, *, retain: bool = False) -> int:
        """Send by QoS 1 and return the message's number, which `acknowledged` gives back."""
        return int(self._client.publish(topic, payload.encode(), qos=1, retain=retain).mid)

    def acknowledged(self) -> list[tuple[int, int]]:
        """Return session and number of what the broker acknowledged since the last call."""
        numbers = []
        while self._acknowledged:
            numbers.append(self._acknowledged.popleft())
        return numbers

    def close(self, within_s: float) -> None:
        """Say `offline` and end within a time; the last will says it where that fails."""
        ends_s = time.monotonic() + within_s
        if self.state == "connected":
            number = self.publish(self._available, "offline", retain=True)
            while time.monotonic() < min(ends_s, time.monotonic() + CLOSING_S):
                if self.state != "connected" or any(n == number for _, n in self.acknowledged()):
                    break
                time.sleep(0.01)
        self._client.disconnect()
        # joins paho's thread, which may be in the middle of connecting
        ending = threading.Thread(target=self._client.loop_stop, daemon=True)
        ending.start()
        ending.join(max(0.1, ends_s - time.monotonic()))

    def _connected(self, client: Client, _data: Any, _flags: Any, code: Any, _more: Any) -> None:
        if code.is_failure:
            self._set("failing", f"{self.broker} refuses: {code}; look at outputs.mqtt.login")
            return
        if self._settings.home_assistant:
            client.subscribe(f"{self._settings.discovery_topic}/status", qos=1)
        self.session += 1
        self._set("connected", None)

    def _disconnected(self, _client: Any, _data: Any, _flags: Any, code: Any, _more: Any) -> None:
        if self.state != "failing":  # the broker's refusal says more
            self._set("waiting", f"the connection to {self.broker} broke off ({code})")

    def _not_reached(self, _client: Any, _data: Any) -> None:
        fault = sys.exc_info()[1]  # paho calls from where it caught it
        why = one_line(fault) if fault else "no answer"
        self._set("waiting", f"{self.broker} cannot be reached ({why}); it is tried again")

    def _published(self, _client: Any, _data: Any, mid: int, _code: Any, _more: Any) -> None:
        self._acknowledged.append((self.session, mid))
        self._on_change()

    def _message(self, _client: Any, _data: Any, message: MQTTMessage) -> None:
        if message.payload == b"online" and not message.retain:
            self.birth_message.set()
            self._on_change()

    def _set(self, state: OutputState, reason: str | None) -> None:
        self.state, self.reason = state, reason
        self._on_change()
