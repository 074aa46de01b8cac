"""A service with four cameras around one street, for the browser's run, and its broker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from serving.peers import Broker
from serving.running import free_port, wait_for

CAMERAS = ("gate", "path", "yard", "lane")
TOPIC = "cstl_edge_street"  # what all topics of the run begin with
SITE = """\
name: Street
data: data
segmenter: background
cameras:
{cameras}
keep:
  unknowns: {{enabled: true, days: 1}}   # nobody here is real
  clips: {{enabled: true, days: 1, max_s: 15}}
page: {{port: {port}}}
"""
MQTT = """\
outputs:
  mqtt: {{port: {port}, topic: {topic}, birth_delay_s: 0}}
"""


class StreetService:
    """`cstl-edge serve` of a site of its own, its REST, its data folder and its broker."""

    def __init__(self, folder: Path, people: int, fps: int, seed: int, *, live: bool) -> None:
        """Write the site and start the service, with a broker where mosquitto is installed.

        Args:
            folder: Emptied first.
            people: Walkers on the street.
            fps: Of each camera.
            seed: Of the street.
            live: Whether the cameras go on for ever, and drop what is late.
        """
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        cameras = "\n".join(
            f'  {name}: {{source: "synthetic://street?side={side}&people={people}&seed={seed}'
            f'&fps={fps}&gate=1{"&live=1" if live else ""}"}}'
            for side, name in enumerate(CAMERAS)
        )
        self.folder, self.port, self.live = folder, free_port(), live
        self.broker = Broker(folder, f"{TOPIC}/events") if Broker.installed() else None
        site = SITE.format(cameras=cameras, port=self.port)
        if self.broker is not None:
            self.broker.give()
            site += MQTT.format(port=self.broker.port, topic=TOPIC)
        (folder / "site.yaml").write_text(site)
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cstl_edge", "serve", str(folder / "site.yaml"), "--json"],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        if self.process.stdout is None:
            raise RuntimeError("the service has no output")
        self.address = str(json.loads(self.process.stdout.readline())["page"])
        self.base = self.address.partition("/?")[0]
        self.token = self.address.partition("token=")[2]

    def get(self, path: str, method: str = "GET") -> Any:
        """Return the answer of an operation."""
        headers = {"authorization": f"Bearer {self.token}"}
        address = f"{self.base}/api/v1{path}"
        request = urllib.request.Request(address, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def events(self) -> list[Any]:
        """Return every event of the store."""
        events, last = list[Any](), 0
        while True:
            page = self.get(f"/events?after={last}&limit=500")
            if not page["events"]:
                return events
            events += [one["event"] for one in page["events"]]
            last = page["last"]

    def walk_again(self, *cameras: str) -> None:
        """Let recordings begin again."""
        for camera in () if self.live else cameras:
            self.get(f"/cameras/{camera}/restart", "POST")

    def ended(self) -> bool:
        """Tell whether every recording has ended and every visit is closed."""
        states = {camera["state"] for camera in self.get("/cameras")}
        return states == {"ended"} and not self.get("/here")["now"]

    def wait_for_ends(self, patience_s: float) -> Any:
        """Wait until every recording has ended and every visit is closed."""
        if not self.live:
            wait_for(self.ended, patience_s, "the end of the recordings")
        return {"visits": len(self.get("/visits?limit=500")["visits"])}

    def files_with(self, name: str) -> list[str]:
        """Return the files of the data folder with the bytes of a name: logs, free pages, all."""
        mark = name.encode()
        files = (p for p in (self.folder / "data").rglob("*") if p.is_file())
        return [p.name for p in files if mark in p.read_bytes()]

    def media(self) -> set[str]:
        """Return the pictures, strips and clips in the data folder."""
        folder = self.folder / "data" / "media"
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    def retained(self, seconds: float = 2.0) -> dict[str, str]:
        """Return what a client that comes now gets of the broker: topics and payloads.

        seconds: that it listens
        """
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        if self.broker is None:
            return {}
        taken: dict[str, str] = {}
        client = Client(CallbackAPIVersion.VERSION2)
        client.on_message = lambda _c, _d, m: taken.__setitem__(
            m.topic, m.payload.decode("utf-8", "replace")
        )
        client.connect("127.0.0.1", self.broker.port)
        client.subscribe("#")
        client.loop_start()
        time.sleep(seconds)
        client.disconnect()
        client.loop_stop()
        return taken

    def stop(self) -> tuple[int, float]:
        """End the service; return its exit code and how long that took [s]."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        seconds = time.monotonic() - began
        self.log.close()
        if self.broker is not None:
            self.broker.take_away(signal.SIGTERM)
        return code, seconds
