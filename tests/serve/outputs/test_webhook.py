"""Webhooks: signed after the specification, tried again, switched off, never in anybody's way."""

import base64
import hashlib
import hmac
import json
import time
from email.utils import formatdate

import pytest
from outputs_house import wait_until

from cstl_edge.errors import ConfigError
from cstl_edge.serve.outputs import webhook
from cstl_edge.serve.outputs.settings import EventFilter, WebhookSettings
from cstl_edge.serve.outputs.webhook import Webhook, headers_of, retry_after_s, secret_bytes

SECRETS = [f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2)]


@pytest.fixture
def start(house, receiver):
    """Return a function that starts a webhook to the receiver, or to another address."""
    running = []

    def begin(**settings):
        chosen = {"name": "hook", "url": receiver.url, "secrets": SECRETS[:1]}
        running.append(Webhook(WebhookSettings.model_validate(chosen | settings), house.around))
        wait_until(lambda: house.around.outbox._all("SELECT * FROM places"))
        return running[-1]

    yield begin
    for output in running:
        output.close(2)


@pytest.fixture
def at_once(monkeypatch):
    """Try again after hundredths of the usual times."""
    monkeypatch.setattr(webhook, "with_jitter", lambda delay_s: min(delay_s / 1000, 0.05))


def lower(headers):
    return {key.lower(): value for key, value in headers.items()}


def test_the_signature_is_that_of_the_specification():
    # vector of the specification: https://github.com/standard-webhooks
    secret = secret_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "x")
    body = b'{"test": 2432232314}'
    headers = headers_of("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, [secret])
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert len(headers_of("a", 1, b"", [secret, secret])["webhook-signature"].split()) == 2


def test_an_event_arrives_signed_by_every_secret(house, receiver, start):
    output = start(secrets=SECRETS)
    number = house.event(distance=0.5)
    output.wake()
    wait_until(lambda: receiver.requests)
    headers, body = lower(receiver.requests[0][0]), receiver.requests[0][1]
    record = json.loads(body)
    row = house.around.reader.events(number - 1, 1)[0]
    assert record == {"type": "gait.named", "timestamp": row.utc, "data": row.event}
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    keys = (base64.b64decode(secret.removeprefix("whsec_")) for secret in SECRETS)
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    expected = " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)
    assert headers["webhook-signature"] == expected
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 600
    wait_until(lambda: output.health().sent == 1)
    assert output.health().state == "connected"


def test_failures_are_tried_again_under_the_same_id(house, receiver, start, at_once):
    receiver.answers = [500, 302, (429, {"retry-after": "1"}), 204]
    output = start()
    house.event()
    output.wake()
    wait_until(lambda: output.health().sent == 1)
    assert len(receiver.requests) == 4
    assert len({lower(headers)["webhook-id"] for headers, _ in receiver.requests}) == 1
    assert output.health().state == "connected"


def test_after_ten_tries_a_message_is_given_up_and_the_next_one_goes(
    house, receiver, start, at_once
):
    receiver.answers = [500] * 10
    output = start()
    house.event(track=1)
    output.wake()
    wait_until(lambda: output.health().dropped == {"refused": 1})
    house.event(track=2)
    output.wake()
    wait_until(lambda: output.health().sent == 1)
    tracks = [json.loads(body)["data"]["track"] for _, body in receiver.requests]
    assert tracks == [1] * 10 + [2]


def test_retry_after_holds_everything_back(house, receiver, start):
    receiver.answers = [(503, {"retry-after": "3600"})]
    output = start()
    house.event()
    house.event()
    output.wake()
    wait_until(lambda: output.health().reason == "the receiver answered 503")
    assert output.health().state == "failing"
    assert 3000 < output._resume_s - time.monotonic() < 4400
    assert output.health().queued == 2
    assert len(receiver.requests) == 1


def test_410_switches_off_until_the_address_changes(house, receiver, start):
    receiver.answers = [410]
    output = start()
    house.event()
    house.event()
    output.wake()
    wait_until(lambda: output.health().state == "off")
    assert "410" in output.health().reason
    wait_until(lambda: output.health().dropped == {"refused": 2})
    house.event()
    output.wake()
    output.close(2)
    again = start()
    assert again.health().state == "off"
    again.close(2)
    other = start(url=receiver.url + "&b=2")
    house.event()
    other.wake()
    wait_until(lambda: other.health().sent == 1)
    assert len(receiver.requests) == 2


def test_a_receiver_that_stalls_is_given_up_in_time(house, receiver, start, at_once):
    def drip(handler):
        """Send a byte every now and then, for ever: no single read takes long."""
        try:
            while True:
                handler.wfile.write(b"H")
                handler.wfile.flush()
                time.sleep(0.1)
        except OSError:
            pass

    receiver.answers = [drip]
    output = start(timeout_s=1)
    house.event()
    began = time.monotonic()
    output.wake()
    wait_until(lambda: output.health().sent == 1)
    assert time.monotonic() - began < 60
    assert len(receiver.requests) == 2


def test_an_end_does_not_wait_for_a_receiver(house, receiver, start):
    receiver.answers = [lambda _handler: time.sleep(30)]
    output = start()
    house.event()
    output.wake()
    wait_until(lambda: receiver.requests)
    began = time.monotonic()
    output.close(15)
    assert time.monotonic() - began < 25  # the receiver sleeps for 30
    assert house.around.outbox.queued("webhook:hook") == 1  # the next run sends it


def test_nobody_there_is_said_and_what_waits_is_kept(house, start):
    output = start(url="http://127.0.0.1:9/x")
    house.event()
    output.wake()
    wait_until(lambda: output.health().state == "failing")
    assert "127.0.0.1" in output.health().reason
    assert output.health().queued == 1


def test_only_events_that_pass_are_sent(house, receiver, start):
    output = start(send=EventFilter(events=("named",), answers=("unknown",)).model_dump())
    house.event()
    house.event(person=None, answer="unknown", track=3)
    house.event("closed", person=None, answer="unknown")
    output.wake()
    wait_until(lambda: output.health().sent == 1)
    assert [json.loads(body)["data"]["track"] for _, body in receiver.requests] == [3]
    assert output.health().queued == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"secrets": ["whsec_AAAA"]}, "24 to 64 bytes"),
        ({"secrets": [SECRETS[0].removeprefix("whsec_")]}, "whsec_"),
        ({"secrets": ["{NOT_THERE}"]}, "NOT_THERE"),
        ({"url": "http://me:secret@host/x"}, "not sent"),
        ({"url": "http://host:99999/x"}, "http://"),
    ],
)
def test_what_cannot_be_used_is_a_configuration_error(house, settings, message):
    chosen = {"name": "hook", "url": "http://host/x", "secrets": SECRETS} | settings
    with pytest.raises(ConfigError, match=message) as failed:
        Webhook(WebhookSettings.model_validate(chosen), house.around)
    assert "secret@" not in str(failed.value)


@pytest.mark.parametrize(
    ("text", "least_s", "most_s"),
    [
        ("17", 17, 17),
        ("0", 0, 0),
        ("99999999", 86400, 86400),
    ],
)
def test_retry_after_is_seconds_and_at_most_a_day(text, least_s, most_s):
    assert least_s <= retry_after_s({"retry-after": text}) <= most_s


@pytest.mark.parametrize(("in_s", "least_s", "most_s"), [(6000, 5000, 6000), (-600, 0, 0)])
def test_retry_after_may_be_a_date(in_s, least_s, most_s):
    date = formatdate(time.time() + in_s, usegmt=True)
    assert least_s <= retry_after_s({"retry-after": date}) <= most_s


@pytest.mark.parametrize("text", ["soon", "-5", "", "nan", None])
def test_a_retry_after_that_is_none_is_left_out(text):
    assert retry_after_s({} if text is None else {"retry-after": text}) is None


def test_jitter_makes_a_delay_longer_by_a_fifth_at_most():
    delays = [webhook.with_jitter(10) for _ in range(200)]
    assert 10 <= min(delays) < max(delays) <= 12
