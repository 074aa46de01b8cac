"""The whole service, as a user runs it: two cameras, a page, a kill, a reload, an end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

WITHIN_S = 240.0  # of anything that is waited for: the machine may be busy
SITE = """\
data: data
segmenter: background
cameras:
  a: {{source: "synthetic://2?seed=1&fps=8&live=1&size=320x240", min_height_px: 32}}
  b: {{source: "synthetic://2?seed=2&fps=8&live=1&size=320x240", min_height_px: 32}}
page: {{port: {port}}}
"""


class Running:
    """A service in a process of its own, and its REST."""

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.site = folder / "site.yaml"
        self.site.write_text(SITE.format(port=self.port), encoding="utf-8")
        command = [sys.executable, "-m", "cstl_edge.cli", "serve", str(self.site), "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.page = json.loads(self.process.stdout.readline())["page"]
        self.token = self.page.partition("token=")[2]

    def open(self, path):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            headers={"Authorization": f"Bearer {self.token}"},
        )
        return urllib.request.urlopen(request, timeout=WITHIN_S)

    def get(self, path):
        with self.open(path) as answer:
            return json.load(answer)

    def until(self, holds, path):
        end = time.monotonic() + WITHIN_S
        while True:
            try:
                answer = self.get(path)
            except urllib.error.HTTPError as err:
                answer = json.load(err)
            if holds(answer):
                return answer
            assert self.process.poll() is None, "the service ended"
            assert time.monotonic() < end, answer
            time.sleep(0.2)

    def pid(self, name):
        processes = self.get("/api/v1/health")["processes"]
        return next(p["pid"] for p in processes if p["name"] == name)


@pytest.fixture
def service(tmp_path):
    running = Running(tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.kill()
    running.process.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_service_from_its_start_to_its_end(service):
    service.until(lambda a: a.get("ready"), "/readyz")
    seen = set()

    def both_saw_somebody(answer):
        events = [row["event"] for row in answer["events"]]
        seen.update(event["camera"] for event in events if event["event"] == "born")
        return seen == {"a", "b"}

    service.until(both_saw_somebody, "/api/v1/events?limit=500")
    with service.open("/api/v1/cameras/a/picture") as picture:
        assert picture.read(3) == b"\xff\xd8\xff"

    other, killed = service.pid("camera:b"), service.pid("camera:a")
    os.kill(killed, signal.SIGKILL)
    service.until(
        lambda cameras: (
            all(c["state"] == "online" for c in cameras)
            and [c["restarts"] for c in cameras] == [1, 0]
        ),
        "/api/v1/cameras",
    )
    assert service.pid("camera:a") != killed
    assert service.pid("camera:b") == other

    good = service.site.read_text(encoding="utf-8")
    service.site.write_text(good + "camera: 1\n", encoding="utf-8")
    service.process.send_signal(signal.SIGHUP)
    health = service.until(lambda h: h["site_error"], "/api/v1/health")
    assert "site.yaml:7: unknown key 'camera'. Did you mean 'cameras'?" in health["site_error"]
    service.site.write_text(good, encoding="utf-8")
    service.process.send_signal(signal.SIGHUP)
    service.until(lambda h: not h["site_error"], "/api/v1/health")
    assert service.pid("camera:b") == other

    with service.open("/api/v1/cameras/b/stream") as stream:
        assert stream.read(100)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(WITHIN_S) == 128 + signal.SIGTERM
