"""Outputs of a site: start, reload of what changed, metrics, faults that stay inside."""

import base64
import json
import threading
import time
from datetime import datetime, timezone

import pytest
from outputs_house import wait_until

from cstl_edge.serve.messages import CameraState, EventMessage, ProcessState, ServiceState, Stats
from cstl_edge.serve.outputs.open import start
from cstl_edge.serve.outputs.outbox import OUTBOX_NAME
from cstl_edge.serve.site import Site

pytest.importorskip("prometheus_client")
pytest.importorskip("paho.mqtt")

SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"
NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)


class StandInContext:
    """The front process as outputs see it."""

    def __init__(self, site):
        self.site = site
        self.callbacks = {"event": [], "state": [], "stats": [], "site": []}

    def state(self):
        return ServiceState(NOW, (), {"door": CameraState("door", "online")})

    def _on(self, kind, callback):
        self.callbacks[kind].append(callback)
        return lambda: self.callbacks[kind].remove(callback)

    def on_event(self, callback):
        return self._on("event", callback)

    def on_state(self, callback):
        return self._on("state", callback)

    def on_stats(self, callback):
        return self._on("stats", callback)

    def on_site(self, callback):
        return self._on("site", callback)

    def tell(self, kind, message):
        for callback in list(self.callbacks[kind]):
            callback(message)


def site(folder, **outputs):
    return Site.model_validate(
        {"data": folder, "cameras": {"door": {"source": "synthetic://1"}}, "outputs": outputs}
    )


def hook(url, name="hook", **more):
    return {"name": name, "url": url, "secrets": [SECRET], **more}


@pytest.fixture
def open_outputs(house, tmp_path):
    """Return a function that starts outputs of settings: (context, outputs)."""
    house.around.outbox.close()  # they open it themselves
    running = []

    def begin(**settings):
        context = StandInContext(site(tmp_path, **settings))
        running.append(start(context))
        return context, running[-1]

    yield begin
    for outputs in running:
        outputs.close()


def states(outputs):
    return {x.name: x.state for x in outputs.health()}


def test_an_event_wakes_the_outputs(house, receiver, open_outputs):
    context, outputs = open_outputs(webhooks=[hook(receiver.url)])
    wait_until(lambda: states(outputs) == {"webhook:hook": "connected"})
    wait_until(lambda: outputs._outbox._all("SELECT * FROM places"))
    number = house.event()
    context.tell("event", EventMessage(number, {}))
    wait_until(lambda: receiver.requests)
    assert outputs.stats() == {"queue_webhook": 0.0} or outputs.health()[0].queued == 1


def test_an_output_that_cannot_start_is_off_and_the_others_run(house, receiver, open_outputs):
    _, outputs = open_outputs(mqtt={"login": "{NOT_THERE}"}, webhooks=[hook(receiver.url)])
    wait_until(lambda: len(outputs.health()) == 2)
    assert states(outputs) == {"webhook:hook": "connected", "mqtt": "off"}
    assert "NOT_THERE" in next(x.reason for x in outputs.health() if x.name == "mqtt")
    assert b'cstl_edge_output_connected{output="mqtt"} 0.0' in outputs.metrics.render()[0]


def test_a_reload_restarts_what_changed_alone(house, receiver, open_outputs, tmp_path):
    context, outputs = open_outputs(webhooks=[hook(receiver.url, "a"), hook(receiver.url, "b")])
    wait_until(lambda: len(outputs.health()) == 2)
    before = dict(outputs._running)
    changed = [
        hook(receiver.url, "a"),
        hook(receiver.url, "b", timeout_s=5),
        hook(receiver.url, "c"),
    ]
    context.site = site(tmp_path, webhooks=changed)
    context.tell("site", context.site)
    wait_until(lambda: set(states(outputs)) == {"webhook:a", "webhook:b", "webhook:c"})
    assert outputs._running["webhook:a"] is before["webhook:a"]
    assert outputs._running["webhook:b"] is not before["webhook:b"]
    context.site = site(tmp_path)
    context.tell("site", context.site)
    wait_until(lambda: not outputs.health())


def test_metrics_are_fed_by_messages(house, open_outputs):
    context, outputs = open_outputs()
    context.tell("stats", Stats("camera:door", NOW, {"frames_total": 7.0}))
    processes = ProcessState("front", "running"), ProcessState("camera:door", "running")
    context.tell("state", ServiceState(NOW, processes, {}, ready=True))
    text = outputs.metrics.render()[0]
    assert b'cstl_edge_camera_frames_total{camera="door"} 7.0' in text
    assert b'cstl_edge_process_up{process="front"} 1.0' in text


def test_an_end_is_quick_whatever_the_receivers_do_and_the_last_word_of_a_reload(
    house, receiver, open_outputs
):
    receiver.answers = [lambda _handler: time.sleep(30)] * 3
    hooks = [hook(receiver.url, name, send={"events": []}) for name in "abc"]
    context, outputs = open_outputs(webhooks=hooks, mqtt={"host": "203.0.113.1"})
    wait_until(lambda: len(outputs.health()) == 4)
    wait_until(lambda: len(outputs._outbox._all("SELECT * FROM places")) == 4)
    context.tell("event", EventMessage(house.event(), {}))
    wait_until(lambda: len(receiver.requests) == 3)
    began = time.monotonic()
    outputs.close(2.0)
    outputs.close(2.0)
    assert time.monotonic() - began < 25  # the receiver sleeps for 30
    context.tell("site", context.site)  # nobody listens any more
    assert not outputs.health()


def test_telling_outputs_never_blocks_even_when_the_outbox_is_locked(house, receiver, open_outputs):
    context, outputs = open_outputs(webhooks=[hook(receiver.url)])
    wait_until(lambda: outputs.health())
    done = threading.Event()

    def tell():
        for _ in range(100):
            context.tell("event", EventMessage(1, {}))
            context.tell("stats", Stats("camera:door", NOW, {"frames_total": 7.0}))
        done.set()

    with outputs._outbox._lock:  # as while a disk hangs
        threading.Thread(target=tell, daemon=True).start()
        assert done.wait(10)
        assert outputs.health()


def test_a_full_disk_delays_and_loses_nothing(house, receiver, open_outputs):
    _, outputs = open_outputs(webhooks=[hook(receiver.url)])
    wait_until(lambda: outputs._outbox and outputs._outbox._all("SELECT * FROM places"))
    limit = outputs._outbox._db.execute("PRAGMA page_count").fetchone()[0]
    outputs._outbox._db.execute(f"PRAGMA max_page_count = {limit}")
    tracks = list(range(300))
    for track in tracks:
        house.event(track=track)
    outputs.wake()
    wait_until(lambda: states(outputs) == {"webhook:hook": "failing"})
    assert "full" in outputs.health()[0].reason
    outputs._outbox._db.execute("PRAGMA max_page_count = 100000")
    wait_until(lambda: outputs.health()[0].sent == 300, within_s=60)
    assert [json.loads(body)["data"]["track"] for _, body in receiver.requests] == tracks


def test_a_store_of_another_program_in_the_place_of_the_outbox_is_said(
    house, receiver, open_outputs, tmp_path
):
    for path in tmp_path.glob(f"{OUTBOX_NAME}*"):
        path.unlink()
    (tmp_path / OUTBOX_NAME).mkdir()
    _, outputs = open_outputs(webhooks=[hook(receiver.url)])
    wait_until(lambda: states(outputs) == {"webhook:hook": "off"})
    assert "outbox.db" in outputs.health()[0].reason
