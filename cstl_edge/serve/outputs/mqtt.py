"""MQTT: events from the outbox, and retained states that are kept as they should be.

What should stand at the broker is computed from the store; what differs is published. After each
connection everything is published again, because a broker that was killed has forgotten it. Topics
that were filled once, in this run or an earlier one, and have no content any more (a person was
erased or renamed, a camera removed, a setting changed) are emptied.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cstl_edge.serve.outputs import home_assistant
from cstl_edge.serve.outputs.base import OutputHealth, OutputThread, Surroundings
from cstl_edge.serve.outputs.home_assistant import Component, House, Topics
from cstl_edge.serve.outputs.mqtt_link import MqttLink
from cstl_edge.serve.outputs.settings import MqttSettings
from cstl_edge.serve.store_rows import EventRow, VisitFilter

NAME = "mqtt"
WINDOW = 100  # events on their way at once: what a frozen broker can make us keep in memory
REFRESH_S = 5.0  # how often states are computed without a new event
ONLINE = "online"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sent:
    """What a message on its way carries: an event of the outbox, or a retained topic."""

    message: int | None = None
    topic: str | None = None
    payload: str = ""


class Mqtt:
    """The output `outputs.mqtt`."""

    name, kind = NAME, "mqtt"

    def __init__(self, settings: MqttSettings, around: Surroundings) -> None:
        """Begin to connect (ConfigError: secrets or certificates; MissingPackage)."""
        self._settings, self._around = settings, around
        self._client_id = settings.client_id or home_assistant.device_id(around.outbox.client)
        base = settings.topic or f"cstl_edge/{home_assistant.slug_of_site(around.site)}"
        self.topics = Topics(base, settings.names, around.outbox.key)
        self._thread = OutputThread(NAME, self._step)
        self._link = MqttLink(settings, self._client_id, self.topics.available, self._thread.wake)
        self._on_way: dict[int, Sent] = {}
        self._pending: dict[str, int] = {}  # retained topics on their way, with the newest number
        self._standing: dict[str, str] = {}  # what the broker acknowledged since it was connected
        self._arrived: list[int] = []  # acknowledged messages that the outbox does not know yet
        self._session = 0
        self._removing: frozenset[str] = frozenset()  # entities whose removal was published
        self._birth_due_s: float | None = None
        self._house: House | None = None
        self._house_of: tuple[int, float] = -1, 0.0  # newest event, and when it was read
        lost = around.outbox.forget_other_brokers_than(self._brokers)
        if lost:
            log.warning("mqtt: %d retained topics stay at a broker that is not used any more", lost)
        self._link.start()
        self._thread.start()

    @property
    def _brokers(self) -> tuple[str, str]:
        """Names under which topics and entities are remembered."""
        return self._link.broker, f"entities {self._link.broker}"

    def wake(self) -> None:
        """Say that there are new events."""
        self._thread.wake()

    def close(self, within_s: float) -> None:
        """End; what was not acknowledged is sent by the next run."""
        ends_s = time.monotonic() + within_s
        self._thread.stop(within_s / 2)
        self._link.close(max(0.1, ends_s - time.monotonic()))

    def health(self) -> OutputHealth:
        """Return the state."""
        state, reason = self._link.state, self._link.reason
        if self._thread.fault is not None:
            state, reason = "failing", self._thread.fault
        return self._around.health(NAME, self.kind, state, reason)

    def _step(self) -> float | None:
        outbox = self._around.outbox
        self._settle()
        outbox.take(NAME, self._around.reader, self._passes, self._settings.queue)
        if self._link.state != "connected":
            return None
        if self._session != self._link.session:
            self._session, self._removing = self._link.session, frozenset()
            self._standing.clear()
        self._answer_birth()
        self._keep_retained()
        self._send_events()
        return None if self._birth_due_s is None else self._birth_due_s - time.monotonic()

    def _passes(self, row: EventRow) -> bool:
        return self._settings.send.passes(row.event)

    def _settle(self) -> None:
        """Take note of what the broker acknowledged."""
        emptied = []
        for session, number in self._link.acknowledged():
            sent = self._on_way.pop(number, None)
            if sent is None:
                continue
            if sent.message is not None:
                self._arrived.append(sent.message)
            elif sent.topic is not None and self._pending.get(sent.topic) == number:
                del self._pending[sent.topic]
                if session == self._link.session:
                    self._standing[sent.topic] = sent.payload
                    emptied += [] if sent.payload else [sent.topic]
        if self._arrived:
            self._around.outbox.acknowledged(NAME, self._arrived)
            self._arrived = []
        if emptied:
            self._around.outbox.forget(self._link.broker, emptied)

    def _answer_birth(self) -> None:
        """Publish everything again, some seconds after Home Assistant said that it is back."""
        now_s = time.monotonic()
        if self._link.birth_message.is_set():
            self._link.birth_message.clear()
            self._birth_due_s = now_s + random.uniform(0, self._settings.birth_delay_s)
        if self._birth_due_s is not None and now_s >= self._birth_due_s:
            self._birth_due_s = None
            self._standing.clear()

    def _read_house(self) -> House:
        """Return cameras and people, read anew after each event and every few seconds."""
        reader, now_s = self._around.reader, time.monotonic()
        newest, (known, read_s) = reader.last_event_id, self._house_of
        if self._house is None or newest != known or now_s - read_s > REFRESH_S:
            self._house_of = newest, now_s
            cameras = self._around.cameras()
            seen = {
                camera: page.visits[0].seen_utc
                for camera in cameras
                if (page := reader.visits(VisitFilter(cameras=(camera,)), limit=1)).visits
            }
            self._house = House(
                cameras=cameras,
                titles={camera: self._around.camera_title(camera) for camera in cameras},
                people=[person.name for person in reader.people()],
                presence=reader.presence(),
                last_seen=reader.last_seen(),
                camera_seen_utc=seen,
            )
        return self._house

    def _keep_retained(self) -> None:
        """Publish what differs from what should stand, and empty what should not stand."""
        house, outbox, broker = self._read_house(), self._around.outbox, self._link.broker
        wanted: dict[str, str] = {}
        if self._settings.home_assistant:
            listed = home_assistant.components(self.topics, house, outbox.client)
            wanted |= self._discovery(listed)
        wanted |= home_assistant.states(self.topics, house)
        wanted[self.topics.available] = ONLINE
        remembered = outbox.remembered(broker)
        if wanted.keys() - remembered:
            outbox.remember(broker, wanted.keys() - remembered)
        for topic in sorted(remembered - wanted.keys()):
            self._retain(topic, "")
        for topic, payload in wanted.items():
            self._retain(topic, payload)

    def _retain(self, topic: str, payload: str) -> None:
        if topic not in self._pending and self._standing.get(topic) != payload:
            number = self._link.publish(topic, payload, retain=True)
            self._pending[topic] = number
            self._on_way[number] = Sent(topic=topic, payload=payload)

    def _discovery(self, listed: tuple[Component, ...]) -> Mapping[str, str]:
        """Return the discovery that is to stand; entities that are gone are removed first."""
        outbox, entities = self._around.outbox, self._brokers[1]
        topic = home_assistant.discovery_topic(self._settings.discovery_topic, outbox.client)
        site, client = self._around.site, outbox.client
        known = {f"{x.platform} {x.key}" for x in listed}
        remembered = outbox.remembered(entities)
        if known - remembered:
            outbox.remember(entities, known - remembered)
        wanted = home_assistant.discovery(self.topics, site, client, listed, {})
        gone = remembered - known
        if gone and gone != self._removing and topic not in self._pending:
            platforms = {key: platform for platform, key in map(str.split, gone)}
            removal = home_assistant.discovery(self.topics, site, client, listed, platforms)
            self._link.publish(topic, removal, retain=True)
            self._removing = gone
            self._standing.pop(topic, None)  # and then without them
        elif gone and self._standing.get(topic) == wanted:
            outbox.forget(entities, gone)
            self._removing = frozenset()
        return {topic: wanted}

    def _send_events(self) -> None:
        ids = {sent.message for sent in self._on_way.values() if sent.message is not None}
        ids |= set(self._arrived)
        for queued in self._around.outbox.due(NAME, WINDOW - len(ids), ids):
            rows = self._around.reader.events(queued.event - 1, 1)
            if not rows or rows[0].id != queued.event or not self._passes(rows[0]):
                self._around.outbox.dropped(NAME, queued.id, "erased")
                continue
            number = self._link.publish(
                self.topics.events, self.topics.event_payload(rows[0].event)
            )
            self._on_way[number] = Sent(message=queued.id)
