"""MQTT with a real broker: nothing acknowledged is lost, nothing erased stays."""

import json
import signal

import pytest
from outputs_house import Broker, Listener, mosquitto, retained_topics, wait_until

from cstl_edge.errors import ConfigError
from cstl_edge.serve.messages import CameraState
from cstl_edge.serve.outputs.mqtt import Mqtt
from cstl_edge.serve.outputs.settings import MqttSettings, QueueSettings

BASE = "cstl_edge/our_home"


@pytest.fixture
def start(house, broker):
    """Return a function that starts the output; what runs is ended."""
    running = []

    def begin(**settings):
        chosen = {"host": "127.0.0.1", "port": broker.port, "keepalive_s": 5, "birth_delay_s": 0.1}
        running.append(Mqtt(MqttSettings.model_validate({**chosen, **settings}), house.around))
        return running[-1]

    yield begin
    for output in running:
        output.close(2)


def discovery(listener):
    return next(json.loads(p) for name, p in reversed(listener.messages) if name.endswith("config"))


def wait_sent(output, count):
    wait_until(lambda: output.health().sent == count and output.health().queued == 0)


def test_events_and_states_arrive(house, broker, listener, start):
    house.people("Ada", "Zoë B")
    house.visit("v1", "Ada")
    house.visit("v2", None, "unknown", camera="yard")
    output = start()
    wait_until(lambda: listener.last(f"{BASE}/unknown/count"))
    house.event(distance=0.25)
    output.wake()
    wait_sent(output, 1)
    wait_until(lambda: listener.of(f"{BASE}/events"))  # the broker may acknowledge before it tells
    assert json.loads(listener.of(f"{BASE}/events")[0])["distance"] == 0.25
    assert listener.last(f"{BASE}/available") == "online"
    assert listener.last(f"{BASE}/camera/door/state") == "online"
    assert listener.last(f"{BASE}/camera/yard/state") == "starting"
    assert listener.last(f"{BASE}/camera/door/presence") == "ON"
    assert listener.last(f"{BASE}/camera/door/last_seen") == "2026-11-30T08:01:00+00:00"
    assert listener.last(f"{BASE}/person/ada/presence") == "ON"
    assert listener.last(f"{BASE}/person/ada/last_seen") == "2026-11-30T08:01:00+00:00"
    assert listener.last(f"{BASE}/person/zoe_b/presence") == "OFF"
    assert listener.last(f"{BASE}/person/zoe_b/last_seen") == "None"
    assert listener.last(f"{BASE}/unknown/count") == "1"
    attributes = json.loads(listener.last(f"{BASE}/person/ada/attributes"))
    assert attributes == {
        "person": "Ada",
        "camera": "door",
        "zone": None,
        "visit": "v1",
        "snapshot": None,
    }
    house.visit("v1", "Ada", ended_s=95)
    house.cameras["door"] = CameraState("door", "offline")
    house.event("closed")
    output.wake()
    wait_until(lambda: listener.last(f"{BASE}/person/ada/presence") == "OFF")
    ended = "2026-11-30T08:01:35+00:00"
    wait_until(lambda: listener.last(f"{BASE}/person/ada/last_seen") == ended)
    wait_until(lambda: listener.last(f"{BASE}/camera/door/state") == "offline")


def test_a_killed_broker_gets_everything_and_the_states_anew(house, broker, listener, start):
    house.people("Ada")
    output = start()
    wait_until(lambda: listener.last(f"{BASE}/available") == "online")
    house.event(track=0)
    output.wake()
    wait_sent(output, 1)
    broker.end(signal.SIGKILL)
    for track in range(1, 40):
        house.event(track=track)
        output.wake()
    wait_until(lambda: output.health().queued == 39)
    wait_until(lambda: output.health().state == "waiting")
    assert str(broker.port) in output.health().reason
    with house.around.outbox._lock:  # nothing is sent before somebody listens
        broker.start()
        late = Listener(broker.port)
    wait_sent(output, 40)
    wait_until(lambda: len(late.of(f"{BASE}/events")) >= 39)
    tracks = [json.loads(payload)["track"] for payload in late.of(f"{BASE}/events")]
    assert sorted(tracks) == list(range(1, 40))  # once each
    wait_until(lambda: late.last(f"{BASE}/person/ada/presence") == "OFF")
    late.close()
    assert retained_topics(broker.port)[f"{BASE}/available"] == "online"


def test_what_waits_is_sent_by_the_next_run(house, broker, start):
    output = start()
    wait_until(lambda: output.health().state == "connected")
    broker.end()
    output.close(1)
    for track in range(3):
        house.event(track=track)
    broker.start()
    listener = Listener(broker.port)
    output = start()
    wait_sent(output, 3)
    wait_until(lambda: len(listener.of(f"{BASE}/events")) >= 3)
    assert [json.loads(x)["track"] for x in listener.of(f"{BASE}/events")] == [0, 1, 2]
    listener.close()


def test_the_queue_of_a_broker_that_is_away_is_bounded(house, broker, listener, start):
    broker.end()
    output = start(queue=QueueSettings(max_messages=5))
    wait_until(lambda: output.health().state == "waiting" and house.around.outbox.key)
    wait_until(lambda: house.around.outbox._all("SELECT * FROM places"))
    for track in range(20):
        house.event(track=track)
        output.wake()
    wait_until(lambda: output.health().dropped == {"full": 15})
    broker.start()
    wait_until(listener.client.is_connected)
    wait_sent(output, 5)


def test_home_assistant_is_told_and_answered_when_it_comes_back(house, broker, listener, start):
    house.people("Ada")
    house.visit("v1", "Ada")
    start()
    wait_until(lambda: listener.last(f"{BASE}/unknown/count"))
    wait_until(lambda: any(name.endswith("/config") for name, _ in listener.messages))
    before = len(listener.messages)
    listener.client.publish("homeassistant/status", "online", qos=1)
    wait_until(lambda: len([1 for n, _ in listener.messages[before:] if n.startswith(BASE)]) >= 10)
    again = [name for name, _ in listener.messages[before:] if name != "homeassistant/status"]
    assert again[0].startswith("homeassistant/device/cstl_edge_")  # configs, then states
    assert again.count(again[0]) == 1
    payload = discovery(listener)
    assert set(payload) >= {"device", "origin", "components", "availability_topic"}
    parts = payload["components"].values()
    assert {part["p"] for part in parts} == {"event", "sensor", "binary_sensor"}
    ids = [part["default_entity_id"] for part in parts]
    assert {"binary_sensor.ada_presence", "sensor.ada_last_seen", "sensor.door_state"} <= set(ids)
    assert len(ids) == len(set(ids)) == len({part["unique_id"] for part in parts})
    assert all(part["default_entity_id"].startswith(f"{part['p']}.") for part in parts)


def test_an_erased_person_leaves_no_retained_topic_not_even_of_an_earlier_run(
    house, broker, listener, start
):
    house.people("Ada", "Zebedee")
    house.visit("v1", "Zebedee")
    for base in (BASE, "elsewhere"):  # earlier runs
        output = start(topic=base)
        wait_until(lambda base=base: listener.last(f"{base}/person/zebedee/presence") == "ON")
        output.close(2)
    house.people("Ada")
    house.store.write("DELETE FROM visits")
    house.event("gallery", person=None, answer=None)
    output = start()
    wait_until(lambda: "zebedee" not in str(retained_topics(broker.port)).lower())
    wait_until(lambda: not [x for x in retained_topics(broker.port) if x.startswith("elsewhere")])
    removals = [json.loads(p) for name, p in listener.messages if name.endswith("config") and p]
    assert any(
        list(part) == ["p"] for payload in removals for part in payload["components"].values()
    )
    assert not [part for part in discovery(listener)["components"].values() if list(part) == ["p"]]
    remembered = house.around.outbox.remembered(output._link.broker)
    assert remembered == set(retained_topics(broker.port))


def test_an_event_that_was_erased_meanwhile_is_not_sent(house, broker, listener, start):
    output = start()
    wait_until(lambda: output.health().state == "connected")
    broker.end()
    wait_until(lambda: output.health().state != "connected")  # else it is on its way already
    house.event()
    output.wake()
    wait_until(lambda: output.health().queued == 1)
    house.store.write("DELETE FROM events")
    broker.start()
    wait_until(lambda: output.health().dropped == {"erased": 1})
    assert output.health().sent == 0


@pytest.mark.parametrize("names", ["payloads", "nowhere"])
def test_names_stay_out_of_topics_or_of_everything(house, broker, listener, start, names):
    house.people("Zebedee")
    house.visit("v1", "Zebedee")
    output = start(names=names)
    wait_until(lambda: listener.last(f"{BASE}/unknown/count"))
    house.event(person="Zebedee", runner_up="Zebedee")
    output.wake()
    wait_sent(output, 1)
    wait_until(lambda: listener.of(f"{BASE}/events"))
    topics = " ".join(name for name, _ in listener.messages).lower()
    payloads = " ".join(payload for _, payload in listener.messages).lower()
    assert "zebedee" not in topics
    assert ("zebedee" in payloads) == (names == "payloads")
    assert f"person/p{output.topics.person_id('Zebedee')}/presence" in topics


def test_the_last_will_says_offline_and_so_does_an_end(house, broker, listener, start):
    output = start()
    wait_until(lambda: listener.last(f"{BASE}/available") == "online")
    output.close(2)
    wait_until(lambda: listener.last(f"{BASE}/available") == "offline")
    output = start()
    wait_until(lambda: listener.last(f"{BASE}/available") == "online")
    output._link._client._sock_close()  # cut off without a word
    wait_until(lambda: listener.of(f"{BASE}/available")[-2:] == ["offline", "online"])


def test_a_wrong_password_is_said(house, tmp_path, start, broker):
    broker.end()
    broker.configure("allow_anonymous false")
    broker.start()
    output = start(login="somebody:wrong")
    wait_until(lambda: output.health().state == "failing")
    assert "outputs.mqtt.login" in output.health().reason


def test_a_secret_or_certificate_that_cannot_be_used_is_a_configuration_error(house, tmp_path):
    pytest.importorskip("paho.mqtt")
    with pytest.raises(ConfigError, match="NOT_THERE"):
        Mqtt(MqttSettings(login="{NOT_THERE}"), house.around)
    with pytest.raises(ConfigError, match="USER:PASSWORD"):
        Mqtt(MqttSettings(login="somebody"), house.around)
    with pytest.raises(ConfigError, match="PEM"):
        Mqtt(MqttSettings.model_validate({"tls": {"ca": tmp_path / "none.pem"}}), house.around)


def test_tls_with_a_broker_whose_certificate_is_trusted_or_not(house, tmp_path, start, broker):
    cryptography = pytest.importorskip("cryptography", reason="makes the certificate")
    assert cryptography
    ca, cert, key = certificate(tmp_path)
    secure = Broker(
        tmp_path, [f"cafile {ca}", f"certfile {cert}", f"keyfile {key}", "allow_anonymous true"]
    )
    secure.start()
    try:
        output = start(port=secure.port, host="localhost", tls={"ca": str(ca)})
        wait_until(lambda: output.health().state == "connected")
        output.close(2)
        output = start(port=secure.port, host="localhost", tls={})
        wait_until(lambda: "certificate" in (output.health().reason or "").lower())
    finally:
        secure.end(signal.SIGKILL)


def certificate(folder):
    """Write a certificate for localhost that signs itself; return its paths."""
    from datetime import datetime, timedelta, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    for path in paths[:2]:
        path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    paths[2].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def test_mosquitto_is_the_real_one():
    assert mosquitto().endswith("mosquitto")
