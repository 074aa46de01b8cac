"""What Home Assistant is told over MQTT: the discovery of one device, and the states of its parts.

Nothing here is sent; `mqtt` compares what should stand at the broker with what does. Topics begin
with the topic of the service (`BASE`):

`BASE/available`                              online or offline (last will)
`BASE/camera/CAMERA/state|presence|last_seen` state of the source; ON or OFF; a time
`BASE/person/PERSON/presence|last_seen|attributes`
`BASE/unknown/count`                          unknown people who are here now
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, get_args

from cstl_edge import __version__
from cstl_edge.gallery.people import name_key
from cstl_edge.live.events import EventName
from cstl_edge.serve.messages import CameraState, SourceStateName
from cstl_edge.serve.outputs.settings import Names
from cstl_edge.serve.store_rows import LastSeenRow, PresenceRow

MAX_STATE = 255  # characters of a state; Home Assistant refuses longer ones
ON, OFF, NOT_KNOWN = "ON", "OFF", "None"  # the last is Home Assistant's word for unknown

Payloads = dict[str, str]
"""What is to stand in each retained topic."""

# Home Assistant's event entity wants `event_type` among the keys of schema 2.
EVENT_TEMPLATE = "{{ dict(value_json, event_type=value_json.event) | tojson }}"
CONNECTED_TEMPLATE = "{{ 'ON' if value == 'online' else 'OFF' }}"


@dataclass(frozen=True, kw_only=True)
class House:
    """All that states are made from, at one moment."""

    cameras: Mapping[str, CameraState | None]
    titles: Mapping[str, str] = field(default_factory=dict)  # of cameras, for people
    people: Sequence[str] = ()  # names of who is enrolled
    presence: Sequence[PresenceRow] = ()
    last_seen: Sequence[LastSeenRow] = ()
    camera_seen_utc: Mapping[str, str] = field(default_factory=dict)
    """When somebody, known or not, was seen last on a camera."""


class Topics:
    """Names of topics and entities for one service."""

    def __init__(self, base: str, names: Names, key: bytes) -> None:
        """Name topics.

        Args:
            base: What every topic begins with.
            names: Where people's names may stand.
            key: Secret of the installation, from which ids of people are made.
        """
        self.base, self.names, self._key = base, names, key

    @property
    def available(self) -> str:
        """Topic of online and offline."""
        return f"{self.base}/available"

    @property
    def events(self) -> str:
        """Topic of events, which are not retained."""
        return f"{self.base}/events"

    @property
    def unknown_count(self) -> str:
        """Topic of how many unknown people are here."""
        return f"{self.base}/unknown/count"

    def camera(self, slug: str, what: str) -> str:
        """Return a topic of a camera."""
        return f"{self.base}/camera/{slug}/{what}"

    def person(self, slug: str, what: str) -> str:
        """Return a topic of a person."""
        return f"{self.base}/person/{slug}/{what}"

    def person_id(self, name: str) -> str:
        """Return ten digits for a person, which mean something on this installation alone."""
        digest = hmac.new(self._key, name_key(name).encode(), hashlib.sha256)
        return digest.hexdigest()[:10]

    def display_name(self, name: str) -> str:
        """Return what a person is called in payloads."""
        return f"Person {self.person_id(name)}" if self.names == "nowhere" else name

    def person_slugs(self, people: Sequence[str]) -> dict[str, str]:
        """Return the part of a topic by which each person is known."""
        if self.names != "everywhere":
            return {name: f"p{self.person_id(name)}" for name in people}
        return slugs({name: self.person_id(name) for name in people})

    def event_payload(self, event: Mapping[str, Any]) -> str:
        """Return an event as it is sent: schema 2, without names where none may stand."""
        record = dict(event)
        if self.names == "nowhere":
            for key in ("person", "runner_up"):
                if record.get(key) is not None:
                    record[key] = self.display_name(record[key])
            if record.get("event") == "gallery":
                record["detail"] = None  # who was erased or changed
        return json.dumps(record, ensure_ascii=False)


def slugs(ids: Mapping[str, str]) -> dict[str, str]:
    """Return a word of a-z, 0-9 and _ for each name; `ids` tell apart those that look alike.

    >>> slugs({"Ada": "1", "Zoë B": "2", "ada!": "3", "李": "4"})
    {'Ada': 'ada_1', 'Zoë B': 'zoe_b', 'ada!': 'ada_3', '李': 'p4'}
    """
    plain = {name: _slug(name) for name in ids}
    uses = Counter(plain.values())
    return {
        name: word
        if word and uses[word] == 1
        else f"{word}_{ids[name]}"
        if word
        else f"p{ids[name]}"
        for name, word in plain.items()
    }


def _slug(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", letters).strip("_")[:40]


def slug_of_site(site: str) -> str:
    """Return the part of a topic by which a site is known."""
    return _slug(site) or "site"


def camera_slugs(cameras: Sequence[str]) -> dict[str, str]:
    """Return the part of a topic by which each camera is known."""
    return slugs({name: hashlib.sha256(name.encode()).hexdigest()[:6] for name in cameras})


def states(topics: Topics, house: House) -> Payloads:
    """Return what stands in the retained topics of cameras, people and unknown visitors."""
    payloads: Payloads = {}
    busy = {row.camera for row in house.presence}
    for camera, slug in camera_slugs(list(house.cameras)).items():
        state = house.cameras[camera]
        payloads[topics.camera(slug, "state")] = state.state if state else "starting"
        payloads[topics.camera(slug, "presence")] = ON if camera in busy else OFF
        seen = house.camera_seen_utc.get(camera)
        payloads[topics.camera(slug, "last_seen")] = _time(seen, camera in busy)
    here = {row.person: row for row in house.presence if row.person is not None}
    seen_last = {row.person: row for row in house.last_seen}
    for name, slug in topics.person_slugs(house.people).items():
        last = seen_last.get(name)
        payloads[topics.person(slug, "presence")] = ON if name in here else OFF
        payloads[topics.person(slug, "last_seen")] = _time(last.utc if last else None, name in here)
        payloads[topics.person(slug, "attributes")] = _attributes(topics, name, last)
    strangers = {row.journey for row in house.presence if row.answer == "unknown"}
    payloads[topics.unknown_count] = str(len(strangers))
    return payloads


def _time(utc: str | None, is_here: bool) -> str:
    """Return a time as a state; while somebody is here it changes once a minute at most."""
    if utc is None:
        return NOT_KNOWN
    when = datetime.fromisoformat(utc).astimezone(timezone.utc)
    when = when.replace(second=0, microsecond=0) if is_here else when
    return when.isoformat(timespec="seconds")


def _attributes(topics: Topics, name: str, last: LastSeenRow | None) -> str:
    """Return attributes of a person; Home Assistant drops one that is called `name`."""
    record = {
        "person": topics.display_name(name),
        "camera": last.camera if last else None,
        "zone": last.zone if last else None,
        "visit": last.visit if last else None,
        "snapshot": last.snapshot if last else None,
    }
    return json.dumps(record, ensure_ascii=False)


@dataclass(frozen=True)
class Component:
    """An entity of Home Assistant."""

    key: str  # in the device's payload; says nothing of a person
    platform: str
    config: Mapping[str, Any]


def components(topics: Topics, house: House, client: str) -> tuple[Component, ...]:
    """Return all entities of the device.

    Args:
        topics: Names of topics.
        house: Cameras and people.
        client: Id of the installation.
    """
    listed = [
        _component("event", "events", client, "Events", {
            "state_topic": topics.events,
            "event_types": list(get_args(EventName)),
            "value_template": EVENT_TEMPLATE,
            "default_entity_id": "event.gait_events",
        }),
        _component("sensor", "unknown_count", client, "Unknown people", {
            "state_topic": topics.unknown_count,
            "state_class": "measurement",
            "default_entity_id": "sensor.gait_unknown_people",
        }),
    ]  # fmt: skip
    for camera, slug in camera_slugs(list(house.cameras)).items():
        listed += _of_camera(topics, house.titles.get(camera, camera), slug, client)
    for name, slug in topics.person_slugs(house.people).items():
        listed += _of_person(topics, name, slug, client)
    return tuple(listed)


def _of_camera(topics: Topics, title: str, slug: str, client: str) -> list[Component]:
    state, key = topics.camera(slug, "state"), f"camera_{slug}"
    return [
        _component("sensor", f"{key}_state", client, f"{title} state", {
            "state_topic": state,
            "device_class": "enum",
            "options": list(get_args(SourceStateName)),
            "entity_category": "diagnostic",
            "default_entity_id": f"sensor.{slug}_state",
        }),
        _component("binary_sensor", f"{key}_connected", client, f"{title} connected", {
            "state_topic": state,
            "value_template": CONNECTED_TEMPLATE,
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "default_entity_id": f"binary_sensor.{slug}_connected",
        }),
        _presence(topics.camera(slug, "presence"), key, client, title, slug),
        _last_seen(topics.camera(slug, "last_seen"), key, client, title, slug),
    ]  # fmt: skip


def _of_person(topics: Topics, name: str, slug: str, client: str) -> list[Component]:
    key, shown = f"person_{topics.person_id(name)}", topics.display_name(name)
    attributes = {"json_attributes_topic": topics.person(slug, "attributes")}
    return [
        _presence(topics.person(slug, "presence"), key, client, shown, slug, attributes),
        _last_seen(topics.person(slug, "last_seen"), key, client, shown, slug, attributes),
    ]


def _presence(
    topic: str, key: str, client: str, shown: str, slug: str, more: Mapping[str, str] | None = None
) -> Component:
    return _component("binary_sensor", f"{key}_presence", client, f"{shown} presence", {
        "state_topic": topic,
        "device_class": "occupancy",
        "default_entity_id": f"binary_sensor.{slug}_presence",
        **(more or {}),
    })  # fmt: skip


def _last_seen(
    topic: str, key: str, client: str, shown: str, slug: str, more: Mapping[str, str] | None = None
) -> Component:
    return _component("sensor", f"{key}_last_seen", client, f"{shown} last seen", {
        "state_topic": topic,
        "device_class": "timestamp",
        "default_entity_id": f"sensor.{slug}_last_seen",
        **(more or {}),
    })  # fmt: skip


def _component(
    platform: str, key: str, client: str, shown: str, config: dict[str, Any]
) -> Component:
    own = {"p": platform, "unique_id": f"cstl_edge_{client}_{key}", "name": shown[:MAX_STATE]}
    return Component(key, platform, {**own, **config})


def device_id(client: str) -> str:
    """Return the id of the service's device."""
    return f"cstl_edge_{client}"


def discovery_topic(prefix: str, client: str) -> str:
    """Return the topic of the device's discovery."""
    return f"{prefix}/device/{device_id(client)}/config"


def discovery(
    topics: Topics, site: str, client: str, listed: Sequence[Component], gone: Mapping[str, str]
) -> str:
    """Return the payload of the device's discovery.

    Args:
        topics: Names of topics.
        site: Name of the site, which the device is called.
        client: Id of the installation.
        listed: Entities.
        gone: Platforms of entities that are to be removed, by key; then comes a payload without.
    """
    entities: dict[str, Mapping[str, Any]] = {x.key: x.config for x in listed}
    entities |= {key: {"p": platform} for key, platform in gone.items()}
    return json.dumps(
        {
            "device": {
                "identifiers": [device_id(client)],
                "name": site,
                "manufacturer": "cstl-edge",
                "model": "Gait recognition",
                "sw_version": __version__,
            },
            "origin": {"name": "cstl-edge", "sw": __version__},
            "availability_topic": topics.available,
            "qos": 1,
            "components": entities,
        },
        ensure_ascii=False,
    )
