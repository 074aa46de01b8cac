"""What Home Assistant is told: names of topics and entities, limits that it has."""

import json
from typing import get_args

import pytest

from cstl_edge.live.events import Event, EventName
from cstl_edge.serve.outputs.home_assistant import (
    EVENT_TEMPLATE,
    House,
    Topics,
    camera_slugs,
    components,
    discovery,
    discovery_topic,
    slug_of_site,
    states,
)

BLOCKED = {  # keys that Home Assistant drops from attributes
    *("name", "state", "icon", "available", "unique_id", "device_class", "entity_picture"),
    "unit_of_measurement",
}


def topics(names="everywhere", key=b"key"):
    return Topics("cstl_edge/home", names, key)


def house(people=("Ada",), cameras=("door",)):
    return House(cameras=dict.fromkeys(cameras), people=people)


def test_two_people_who_are_spelt_alike_have_topics_of_their_own():
    people = ["Ada B", "ada-b", "Zoë", "李", "李明"]
    names = topics().person_slugs(people)
    assert len(set(names.values())) == len(people)
    assert names["Zoë"] == "zoe"
    assert all(word.replace("_", "").isalnum() and word.isascii() for word in names.values())
    assert camera_slugs(["door-a", "door_a"])["door-a"] != "door_a"


def test_ids_of_people_hold_for_one_installation_and_either_case():
    assert topics().person_id("Ada") == topics().person_id("ADA")
    assert topics().person_id("Ada") != topics(key=b"other").person_id("Ada")


def test_no_attribute_has_a_key_that_home_assistant_drops():
    for topic, payload in states(topics(), house()).items():
        if topic.endswith("attributes"):
            assert not BLOCKED & set(json.loads(payload))


def test_states_are_short_enough():
    long = "x" * 200
    payloads = states(topics(), house(people=(long,), cameras=("y" * 40,)))
    assert all(len(p) <= 255 for t, p in payloads.items() if not t.endswith("attributes"))


def test_a_discovery_of_200_people_has_one_payload_with_unique_ids():
    full = house(people=tuple(f"Person {n}" for n in range(200)), cameras=("door", "yard"))
    listed = components(topics(), full, "c0ffee")
    payload = discovery(topics(), "home", "c0ffee", listed, {"old": "sensor"})
    record = json.loads(payload)
    assert record["components"].pop("old") == {"p": "sensor"}
    ids = [x["unique_id"] for x in record["components"].values()]
    assert len(ids) == len(set(ids)) == 2 + 2 * 4 + 200 * 2
    assert len(payload) < 250_000
    assert discovery_topic("homeassistant", "c0ffee") == (
        "homeassistant/device/cstl_edge_c0ffee/config"
    )


def test_every_kind_of_event_passes_the_template_of_the_event_entity():
    jinja2 = pytest.importorskip("jinja2")
    template = jinja2.Environment().from_string(EVENT_TEMPLATE)
    types = next(x for x in components(topics(), house(), "c") if x.platform == "event").config
    for name in get_args(EventName):
        event = Event(event=name, source="synthetic://1", person="Ada & <Bob>").to_dict()
        made = json.loads(template.render(value_json=event))
        assert made.pop("event_type") == name
        assert name in types["event_types"]
        assert made == event


def test_the_payload_of_an_event_is_schema_2_and_loses_names_where_none_may_stand():
    event = Event(event="named", source="x", person="Ada", runner_up="Bob").to_dict()
    assert json.loads(topics().event_payload(event)) == event
    hidden = json.loads(topics("nowhere").event_payload(event))
    assert hidden["person"] == f"Person {topics().person_id('Ada')}"
    assert "Bob" not in json.dumps(hidden)
    assert set(hidden) == set(event)
    gallery = Event(event="gallery", source="x", detail="Ada").to_dict()
    assert "Ada" not in topics("nowhere").event_payload(gallery)


def test_a_site_of_any_name_has_a_topic():
    assert slug_of_site("Our Home/2+#") == "our_home_2"
    assert slug_of_site("家") == "site"
