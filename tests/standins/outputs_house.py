"""What surrounds outputs in tests: a store, mosquitto, MQTT clients, a receiver of webhooks."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cstl_edge.live.events import Event, utc_text
from cstl_edge.serve.outputs.base import Surroundings
from cstl_edge.serve.store import Store
from cstl_edge.serve.store_rows import PersonRow, VisitRow

START = datetime(2026, 11, 30, 8, tzinfo=timezone.utc)


def wait_until(condition, within_s=90.0):
    """Wait for a condition and return its value; fail where it never holds."""
    ends = time.monotonic() + within_s
    while time.monotonic() < ends:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s} s: {condition}")


@dataclass
class House:
    """A store that is written, and what outputs see of it."""

    store: Store
    around: Surroundings
    cameras: dict = field(default_factory=dict)

    def event(self, name="named", person="Ada", answer="known", camera="door", **more):
        event = Event(
            event=name, source="synthetic://1", camera=camera, person=person, answer=answer, **more
        )
        return self.store.add_event(event)

    def people(self, *names):
        self.store.set_people([PersonRow(name=x, created_utc=utc_text(START)) for x in names])

    def visit(self, name, person=None, answer="known", camera="door", ended_s=None):
        self.store.put_visit(
            VisitRow(
                id=name,
                camera=camera,
                journey=name,
                person=person,
                answer=answer,
                started_utc=utc_text(START),
                seen_utc=utc_text(START + timedelta(seconds=ended_s or 70)),
                ended_utc=None if ended_s is None else utc_text(START + timedelta(seconds=ended_s)),
            )
        )


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Broker:
    """A mosquitto on this machine that can be killed and started again."""

    def __init__(self, folder, lines=("allow_anonymous true",)):
        self.port = free_port()
        self.file = folder / "mosquitto.conf"
        self.configure(*lines)
        self.process = None

    def configure(self, *lines):
        if os.geteuid() == 0:  # or it becomes a user who may not read the folder of a test
            lines = ("user root", *lines)
        self.file.write_text("\n".join([f"listener {self.port} 127.0.0.1", *lines, ""]))

    def start(self):
        self.process = subprocess.Popen(
            [mosquitto(), "-c", str(self.file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def listens():
            assert self.process.poll() is None, "mosquitto ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return True

        wait_until(listens)

    def end(self, how=signal.SIGTERM):
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None


def mosquitto():
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if not found:
        pytest.skip("mosquitto is not installed (Debian: apt-get install mosquitto)")
    return found


class Listener:
    """A real client: everything that was published, and what stands retained."""

    def __init__(self, port, topic="#"):
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.messages = []  # (topic, payload), in order
        self.retained = {}  # as a client sees it that comes later, kept up to date
        self.subscribed = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.on_message = self._message
        self.client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.subscribed.wait(20)

    def _message(self, _client, _data, message):
        self.messages.append((message.topic, message.payload.decode()))

    def of(self, topic):
        return [payload for name, payload in self.messages if name == topic]

    def last(self, topic):
        return next((p for name, p in reversed(self.messages) if name == topic), None)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def retained_topics(port, quiet_s=0.5):
    """Return topic -> payload of what a client that comes now gets, read until nothing follows."""
    listener = Listener(port)
    before = -1
    while before != len(listener.messages):
        before = len(listener.messages)
        time.sleep(quiet_s)
    listener.close()
    return dict(listener.messages)


class Receiver:
    """An HTTP server that answers as a test says."""

    def __init__(self):
        self.requests = []  # (headers, body)
        self.answers = []  # status or (status, headers) or a function of the handler; then 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.append((dict(self.headers), body))
                answer = receiver.answers.pop(0) if receiver.answers else 204
                if callable(answer):
                    answer(self)
                    return
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?a=1"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
