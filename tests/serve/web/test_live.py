"""Live pictures: the one WebSocket, single pictures, MJPEG; what is stale, slow or ended."""

import json
import socket
import struct
import time
from contextlib import contextmanager

import pytest
from standin_front import JPEG
from standin_page import LONG_S, until
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from cstl_edge.serve.messages import EventMessage

LIVE = "ws://127.0.0.1:8765/live"


def headers_of(client):
    return {name: client.headers[name] for name in ("origin", "sec-fetch-site")}


@contextmanager
def opened(client, protocols=None, headers=None):
    protocols = protocols or ["cstl-edge", f"proof.{client.headers['x-csrf-token']}"]
    headers = headers_of(client) if headers is None else headers
    with client.websocket_connect(LIVE, subprotocols=protocols, headers=headers) as socket:
        yield socket


def next_picture(socket):
    while True:
        message = socket.receive()
        if message.get("bytes"):
            (length,) = struct.unpack(">H", message["bytes"][:2])
            return json.loads(message["bytes"][2 : 2 + length]), message["bytes"][2 + length :]


def next_text(socket, kind):
    while True:
        message = socket.receive()
        if message.get("text") and json.loads(message["text"])["kind"] == kind:
            return json.loads(message["text"])


def ended(socket):
    """Return the code by which the service ends a socket."""
    with pytest.raises(WebSocketDisconnect) as err:
        read_for_ever(socket)
    return err.value.code


def read_for_ever(socket):
    while True:
        socket.receive_text()


def test_pictures_come_newest_only_and_wait_for_the_acknowledgement(page):
    client = page.browser()
    with client, opened(client) as live:
        live.send_json({"watch": {"door": "boxes"}, "fps": 5})
        until(lambda: page.front.watched.get(("door", "boxes")) == 5)
        client.portal.call(page.front.show, "door", JPEG, "boxes", 1)
        header, jpeg = next_picture(live)
        assert (header["camera"], header["sequence"], jpeg) == ("door", 1, JPEG)
        for number in (2, 3, 4):
            client.portal.call(page.front.show, "door", JPEG, "boxes", number)
        live.send_json({"ack": "door"})
        assert next_picture(live)[0]["sequence"] == 4
    until(lambda: page.front.watched["door", "boxes"] == 0)


def test_states_and_events_come_by_the_same_socket(page):
    client = page.browser()
    with client, opened(client) as live:
        states = next_text(live, "state")["cameras"]
        assert [(c["name"], c["state"], c["fps"]) for c in states] == [
            ("door", "online", 9.8),
            ("yard", "online", 9.8),
        ]
        event = EventMessage(7, {"event": "named", "camera": "door", "person": "Ada"})
        client.portal.call(page.front.tell, "event", event)
        assert next_text(live, "event")["event"]["person"] == "Ada"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"origin": "http://127.0.0.1:18101", "sec-fetch-site": "same-site"}, "cross-site"),
        ({}, "no-origin"),
    ],
)
def test_the_handshake_needs_our_own_page(page, change, code):
    client = page.browser()
    for name in ("origin", "sec-fetch-site"):
        del client.headers[name]
    protocols = ["cstl-edge", f"proof.{client.headers['x-csrf-token']}"]
    with pytest.raises(WebSocketDenialResponse) as err, opened(client, protocols, change):
        pass
    assert refusal(err.value) == code


def test_the_handshake_needs_the_proof(page):
    client = page.browser()
    for protocols in (["cstl-edge"], ["cstl-edge", "proof.wrong"]):
        with pytest.raises(WebSocketDenialResponse) as err, opened(client, protocols):
            pass
        assert refusal(err.value) == "no-proof"


def refusal(err):
    """Return the code of the answer to a refused handshake."""
    return err.json()["code"]


@pytest.mark.parametrize("text", ["[]", "{", '{"watch": {"door": "all"}}', '{"shell": "ls"}'])
def test_what_is_no_message_ends_the_socket(page, text):
    client = page.browser()
    with client, opened(client) as live:
        live.send_text(text)
        assert ended(live) == 4422


def test_nobody_looks_at_a_camera_that_there_is_not(page):
    client = page.browser()
    with client, opened(client) as live:
        live.send_json({"watch": {"cellar": "boxes", "yard": "segmentation"}, "fps": 30})
        until(lambda: page.front.watched)
    assert set(page.front.watched) == {("yard", "segmentation")}
    assert page.front.site.page.max_fps == 10


def test_a_revoked_session_ends_its_sockets(page, monkeypatch):
    from cstl_edge.serve.web import live as module

    monkeypatch.setattr(module, "SESSION_EVERY_S", 0.0)
    client = page.browser()
    with client, opened(client) as live:
        next_text(live, "state")
        (row,) = page.app.state.sessions.all()
        page.app.state.sessions.revoke(row.id)
        assert ended(live) == 4401


def test_a_page_that_acknowledges_nothing_is_dropped(page, monkeypatch):
    from cstl_edge.serve.web import live as module

    monkeypatch.setattr(module, "STALL_S", 0.2)
    dropped = []
    page.app.state.drop = dropped.append
    client = page.browser()
    with client, opened(client) as live:
        live.send_json({"watch": {"door": "boxes"}})
        until(lambda: page.front.watched)
        client.portal.call(page.front.show, "door")
        next_picture(live)
        until(lambda: dropped)
    assert page.app.state.hub.dropped_viewers == 1


def test_the_end_of_the_service_ends_the_sockets(page):
    client = page.browser()
    with client, opened(client) as live:
        next_text(live, "state")
        page.front.stopping = True
        assert ended(live) == 1012


def test_too_many_pages_are_refused(make_page):
    page = make_page(page={"max_viewers": 1})
    client = page.browser()
    with client, opened(client):
        with pytest.raises(WebSocketDenialResponse) as err, opened(client):
            pass
        assert refusal(err.value) == "busy"


def test_a_single_picture_is_the_newest(page):
    client = page.program()
    page.front.show("door", sequence=3)
    answer = client.get("/api/v1/cameras/door/picture")
    assert answer.content == JPEG
    assert answer.headers["x-sequence"] == "3"


def test_a_camera_without_a_picture_does_not_hold_the_page(page, monkeypatch):
    from cstl_edge.serve.web.rest import cameras

    monkeypatch.setattr(cameras, "PICTURE_WAIT_S", 0.1)
    answer = page.program().get("/api/v1/cameras/door/picture")
    assert (answer.status_code, answer.json()["code"]) == (503, "no-picture")
    assert page.front.watched["door", "boxes"] == 0  # and it is not drawn any longer


def test_an_image_of_our_page_needs_no_header_but_its_signature(page):
    client = page.browser()
    camera = client.get("/api/v1/cameras/door").json()
    page.front.show("door")
    del client.headers["x-csrf-token"], client.headers["origin"]
    assert client.get(camera["picture"]).content == JPEG
    assert client.get(camera["picture"].replace("door", "yard")).status_code == 403
    other = page.browser()
    del other.headers["x-csrf-token"], other.headers["origin"]
    assert other.get(camera["picture"]).status_code == 403  # signed for the other session
    post = client.post(camera["picture"].replace("/picture", "/restart"))
    assert post.status_code == 403


def read_until(client, mark):
    data = b""
    while mark not in data:
        chunk = client.recv(65536)
        assert chunk, data[-500:]
        data += chunk
    return data


def test_mjpeg_sends_the_next_header_at_once_and_ends_with_the_service(running):
    client = running.connect("/api/v1/cameras/door/stream")
    data = read_until(client, b"Content-Type: image/jpeg\r\n\r\n")
    assert b"multipart/x-mixed-replace; boundary=cstl-edge-picture" in data
    running.show(JPEG, 1)
    data = read_until(client, b"Content-Type: image/jpeg\r\n\r\n")
    assert JPEG in data  # and behind it the header of a picture that is not there yet
    assert data.rstrip().endswith(b"--cstl-edge-picture\r\nContent-Type: image/jpeg")
    running.page.front.stopping = running.server.should_exit = True
    running.thread.join(LONG_S)
    assert not running.thread.is_alive()


def test_a_client_that_stops_reading_is_dropped(running, monkeypatch):
    from cstl_edge.serve.web.rest import cameras

    monkeypatch.setattr(cameras, "STALL_S", 0.5)
    client = running.connect("/api/v1/cameras/door/stream")
    read_until(client, b"Content-Type: image/jpeg\r\n\r\n")
    hub = running.page.app.state.hub
    big, number = b"x" * 200_000, 0
    end = time.monotonic() + LONG_S
    while hub.dropped_viewers == 0:  # it reads nothing of this
        assert time.monotonic() < end
        number += 1
        running.show(big, number)
        time.sleep(0.05)
    until(lambda: not hub.viewers)
    until(lambda: not running.server.server_state.connections)


def test_a_connection_that_asks_for_nothing_is_ended(running, monkeypatch):
    from cstl_edge.serve.web import app, server

    monkeypatch.setattr(app, "LOOK_S", 0.1)
    monkeypatch.setattr(server, "SILENT_S", 0.2)
    silent = socket.create_connection(("127.0.0.1", running.port), timeout=LONG_S)
    silent.sendall(b"GET / HTTP/1.1\r\nHost:")  # and never the rest
    assert silent.recv(1) == b""  # ended; the socket's own limit of time is a failure
    answering = running.connect("/livez")
    assert b"alive" in read_until(answering, b"}")


def test_events_stream_from_where_one_is(running):
    from cstl_edge.live.events import Event
    from cstl_edge.serve.store import Store

    store = Store(running.page.front.site.data)
    store.add_event(Event(event="born", source="a", camera="door", track=1))
    client = running.connect("/api/v1/events/stream?after=0")
    data = read_until(client, b"\n\n\r\n")
    store.add_event(Event(event="closed", source="a", camera="door", track=2))
    store.close()
    while b"event: closed" not in data:
        data += client.recv(65536)
    assert b"id: 1\nevent: born\ndata: {" in data
    assert b"text/event-stream" in data
    assert b"x-accel-buffering: no" in data.lower()
