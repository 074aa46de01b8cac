"""The client of a running service, and the verbs that use it."""

import http.server
import json
import threading

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("httpx", reason="the test client of starlette needs httpx")
pytest.importorskip("argon2", reason="the extra serve is not installed")

from command_line import call
from standin_front import ago
from standin_page import Page, Running, free_port

from cstl_edge.errors import ConfigError, DataError, GalleryError, SourceUnavailable
from cstl_edge.live.events import Event
from cstl_edge.serve.client import ServiceClient
from cstl_edge.serve.messages import Reply
from cstl_edge.serve.store import Store
from cstl_edge.serve.store_rows import PersonRow

MP4 = b"\x00\x00\x00\x20ftypisom" + b"\x00" * 500


@pytest.fixture
def service(tmp_path):
    with Running(Page(tmp_path / "data", page={"port": free_port()})) as running:
        yield running


@pytest.fixture
def address(service, monkeypatch):
    monkeypatch.setenv("CSTL_EDGE_TOKEN", service.page.token)
    return f"http://127.0.0.1:{service.port}"


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "walk.mp4"
    path.write_bytes(MP4)
    return path


def test_people_are_listed(service, address):
    store = Store(service.page.front.site.data)
    store.set_people([PersonRow(name="Ada", created_utc=ago(9), templates=3, consent="yes")])
    store.close()
    result = call("gallery", "list", "--server", address, "--json")
    assert [row["name"] for row in json.loads(result.stdout)] == ["Ada"]
    assert "Ada: 3 templates" in call("gallery", "list", "--server", address).stdout


def test_a_video_is_enrolled_and_identified(service, address, video):
    front = service.page.front
    status = {"id": "e", "person": "Ada", "kind": "video", "state": "done", "windows": 9}
    front.answers["enrol.start"] = status
    result = call("enroll", "Ada", video, "--consent", "agreed", "--server", address)
    assert "enrolled Ada: 9 windows" in result.stdout
    walk = {"track": 1, "answer": "known", "person": "Ada", "distance": 0.2, "threshold": 0.4}
    front.answers["identify"] = {"walks": [{**walk, "frames": 40}], "seconds": 3.0}
    result = call("identify", video, "--server", address)
    assert "track 1: Ada, distance 0.200 (threshold 0.400), 40 frames" in result.stdout
    (event,) = json.loads(call("identify", video, "--server", address, "--json").stdout)
    assert set(event) == set(Event(event="closed", source="x").to_dict())
    assert (event["person"], event["schema"]) == ("Ada", 2)


def test_events_are_printed_the_oldest_first(service, address):
    store = Store(service.page.front.site.data)
    for number in range(3):
        store.add_event(Event(event="born", source="a", camera="door", track=number))
    store.close()
    result = call("events", address, "--limit", "2", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["track"] for line in lines] == [1, 2]
    assert call("events", address, "--camera", "nowhere").returncode == GalleryError.exit_code


def test_following_goes_on_from_the_last_event(service, address):
    store = Store(service.page.front.site.data)
    store.add_event(Event(event="born", source="a", camera="door", track=0))
    client = ServiceClient(address)
    _, last = client.events()
    store.add_event(Event(event="closed", source="a", camera="door", track=7))
    store.close()
    number, event = next(client.follow(last))
    assert (number, event["track"]) == (last + 1, 7)


def test_options_without_a_meaning_are_refused(address, video):
    result = call("identify", video, "--server", address, "--model", "x")
    assert result.returncode == 2
    assert "--model has no meaning beside --server" in result.stderr


def test_a_refusal_has_the_services_words_and_our_exit_code(service, address, video):
    service.page.front.answers["enrol.start"] = Reply("1", False, None, "conflict", "it is Bo")
    client = ServiceClient(address)
    with pytest.raises(GalleryError, match="it is Bo"):
        client.enroll("Ada", "yes", video)
    with pytest.raises(ConfigError, match="nobody's"):
        ServiceClient(address, "wrong").people()
    video.write_bytes(b"no video at all, not in the least")
    with pytest.raises(DataError, match="Expected a video"):
        client.identify(video)


@pytest.mark.parametrize("address", ["127.0.0.1:8765", "ftp://a", "http://", "file:///etc/passwd"])
def test_an_address_that_is_none_is_one_line(address):
    with pytest.raises(ConfigError, match="expected an address"):
        ServiceClient(address, "token")


def test_a_token_is_needed(monkeypatch, tmp_path):
    monkeypatch.delenv("CSTL_EDGE_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="needs a token"):
        ServiceClient("http://127.0.0.1:1")
    path = tmp_path / "token"
    path.write_text("t" * 30 + "\n")
    monkeypatch.setenv("CSTL_EDGE_TOKEN_FILE", str(path))
    with pytest.raises(SourceUnavailable, match="no service answers"):
        ServiceClient(f"http://127.0.0.1:{free_port()}").people()


def test_another_server_is_told_apart_and_a_redirect_is_not_followed():
    seen = []

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(302 if len(seen) == 1 else 200)
            self.send_header("location", "/elsewhere")
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = ServiceClient(f"http://127.0.0.1:{server.server_port}", "t" * 30)
    try:
        with pytest.raises(SourceUnavailable, match="HTTP 302"):
            client.people()
        with pytest.raises(SourceUnavailable, match="not as cstl-edge serve"):
            client.people()
    finally:
        server.shutdown()
        server.server_close()
    assert seen == ["/api/v1/people", "/api/v1/people"]
