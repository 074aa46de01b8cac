"""Settings of the outputs: the group `outputs` of a site."""

from __future__ import annotations

import ssl
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from cstl_edge.config import StrictModel
from cstl_edge.errors import ConfigError, one_line
from cstl_edge.live.events import EventName

Answer = Literal["known", "unknown", "none"]
Names = Literal["everywhere", "payloads", "nowhere"]
TopicWord = Annotated[str, Field(pattern=r"^[^+#\x00-\x20/]+(/[^+#\x00-\x20/]+)*$", max_length=200)]
Port = Annotated[int, Field(ge=1, le=65535)]

MQTT_PORT, MQTT_TLS_PORT = 1883, 8883


class QueueSettings(StrictModel):
    """What waits for an output that is away; beyond it the oldest are dropped and counted."""

    max_messages: int = Field(default=10_000, ge=1, le=1_000_000)
    max_age_hours: float = Field(default=168, gt=0, le=24 * 366)


class EventFilter(StrictModel):
    """Which events go to an output; an empty list means all."""

    events: tuple[EventName, ...] = ()
    """Kinds of events, such as `named` and `closed`."""
    answers: tuple[Answer, ...] = ()
    """Of events that have an answer, those with one of these; events without one pass."""
    cameras: tuple[str, ...] = ()
    """Names of cameras; events of no camera pass."""

    def passes(self, event: dict[str, Any]) -> bool:
        """Tell whether an event goes out."""
        answer, camera = event.get("answer"), event.get("camera")
        return (
            (not self.events or event.get("event") in self.events)
            and (not self.answers or answer is None or answer in self.answers)
            and (not self.cameras or camera is None or camera in self.cameras)
        )


class MqttTlsSettings(StrictModel):
    """Encryption of the way to the broker."""

    ca: Path | None = None
    """File of certificates that are trusted; the system's where it is not given."""
    cert: Path | None = None
    """Certificate by which the broker knows us, with `key`."""
    key: Path | None = None

    @model_validator(mode="after")
    def _pair(self) -> MqttTlsSettings:
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected cert and key together, or neither")
        return self

    def context(self) -> ssl.SSLContext:
        """Return the context of a connection (ConfigError: a file that cannot be used)."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as err:
            files = ", ".join(one_line(x) for x in (self.ca, self.cert, self.key) if x)
            raise ConfigError(
                f"outputs.mqtt.tls: expected files in PEM format; {files}: {one_line(err)}"
            ) from err
        return context


class MqttSettings(StrictModel):
    """`outputs.mqtt`: a broker, and Home Assistant behind it."""

    host: str = Field(default="127.0.0.1", pattern=r"^[A-Za-z0-9:%._-]+$", max_length=253)
    """Name or address of the broker."""
    port: Port | None = None
    """1883, or 8883 with `tls`."""
    login: str | None = None
    """USER:PASSWORD, or `{NAME}` to take it from the environment or the file of credentials."""
    tls: MqttTlsSettings | None = None
    """Encryption; `{}` uses the certificates that the system trusts."""
    client_id: str | None = Field(default=None, min_length=1, max_length=64)
    """Name at the broker, unique there; made once per installation where it is not given."""
    keepalive_s: int = Field(default=30, ge=5, le=3600)
    """A silent broker is noticed after about twice this time."""
    topic: TopicWord | None = None
    """What all topics begin with; `cstl_edge/SITE` where it is not given."""
    names: Names = "everywhere"
    """Where people's names stand: in topics and payloads, in payloads only, or in neither (people
    are then told apart by ids that mean something on this installation alone)."""
    home_assistant: bool = True
    """Whether Home Assistant is told of cameras and people, so that they appear by themselves."""
    discovery_topic: TopicWord = "homeassistant"
    """What the topics of Home Assistant's discovery begin with."""
    birth_delay_s: float = Field(default=3.0, ge=0, le=60)
    """At most how long after its birth message Home Assistant is answered, at random."""
    send: EventFilter = EventFilter()
    """Which events are sent."""
    queue: QueueSettings = QueueSettings()

    @property
    def port_number(self) -> int:
        """The port that is used."""
        return self.port or (MQTT_PORT if self.tls is None else MQTT_TLS_PORT)


class WebhookSettings(StrictModel):
    """One of `outputs.webhooks`: an address that is called with every event that passes."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    """Name on the page and in metrics."""
    url: str
    """http:// or https:// address; may hold `{NAME}` for secrets."""
    secrets: tuple[str, ...] = Field(min_length=1, max_length=4)
    """`whsec_` and base64 of 24 to 64 random bytes, or `{NAME}`; each signs, so that a secret can
    be changed while receivers still know the old one."""
    send: EventFilter = EventFilter(events=("named", "closed"))
    """Which events are sent."""
    timeout_s: float = Field(default=20, ge=1, le=30)
    """How long an answer may take."""
    queue: QueueSettings = QueueSettings()

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        parts = urlsplit(url)
        if not url.startswith("{") and (parts.scheme not in {"http", "https"} or not parts.netloc):
            raise ValueError("expected an address that begins with http:// or https://")
        return url


class MetricsSettings(StrictModel):
    """`outputs.metrics`: what Prometheus reads at `/metrics` of the page."""

    enabled: bool = True
    token: str | None = None
    """What Prometheus sends as `Authorization: Bearer`; `{NAME}` takes it from the environment or
    the file of credentials. Without one only people who have logged in read it."""
    public: bool = False
    """True: whoever reaches the page may read it; it holds no names of people."""


class OutputsSettings(StrictModel):
    """Group `outputs` of a site: where events go."""

    mqtt: MqttSettings | None = None
    webhooks: tuple[WebhookSettings, ...] = Field(default=(), max_length=20)
    metrics: MetricsSettings = MetricsSettings()

    @field_validator("webhooks")
    @classmethod
    def _unique(cls, webhooks: tuple[WebhookSettings, ...]) -> tuple[WebhookSettings, ...]:
        double = [name for name, n in Counter(w.name for w in webhooks).items() if n > 1]
        if double:
            raise ValueError(f"expected a name of its own for each webhook; {double[0]} is twice")
        return webhooks
