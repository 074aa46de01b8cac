"""A whole service in a real Chromium: enrol, recognise, name, merge and undo, correct, erase.

    python benchmarks/serve/browser.py --out runs/browser --axe node_modules/axe-core/axe.min.js

Four synthetic cameras around one street; needs Playwright (`pip install playwright`) and Chromium.
By default each camera plays one period of the street as a recording, of which a slow machine loses
no frame, and begins again when the page restarts it; `--live` has cameras that drop what is late.
Writes steps.json (what was done and whether it came), and a screenshot of every page at 1440 and
390 pixels. Exit code 1 where a step failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cstl_edge.serve.demo_site import free_port

ADA, BEN = "Adalindis", "Benvenuto"  # names that no file has by chance
CAMERAS = ("gate", "path", "yard", "lane")
PAGES = {
    "now": "",
    "visits": "visits",
    "unknowns": "unknowns",
    "people": "people",
    "health": "health",
}
SIZES = ((1440, 900), (390, 844))
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
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


class Service:
    """`cstl-edge serve` of a site of its own, and its REST."""

    def __init__(self, folder: Path, people: int, fps: int, *, live: bool) -> None:
        """Write the site and start the service.

        Args:
            folder: Emptied first.
            people: Walkers on the street.
            fps: Of each camera.
            live: Whether the cameras go on for ever, and drop what is late.
        """
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        cameras = "\n".join(
            f'  {name}: {{source: "synthetic://street?side={side}&people={people}&seed=1'
            f'&fps={fps}{"&live=1" if live else ""}"}}'
            for side, name in enumerate(CAMERAS)
        )
        self.folder, self.port, self.live = folder, free_port(), live
        (folder / "site.yaml").write_text(SITE.format(cameras=cameras, port=self.port))
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cstl_edge", "serve", str(folder / "site.yaml"), "--json"],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        assert self.process.stdout is not None
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

    def walk_again(self, *cameras: str) -> None:
        """Let recordings begin again."""
        for camera in () if self.live else cameras:
            self.get(f"/cameras/{camera}/restart", "POST")

    def wait_for_ends(self, patience_s: float) -> Any:
        """Wait until every recording has ended and every visit is closed."""

        def ended() -> bool:
            states = {camera["state"] for camera in self.get("/cameras")}
            return states == {"ended"} and not self.get("/here")["now"]

        if not self.live:
            waited(ended, patience_s, "the recordings did not end")
        return {"visits": len(self.get("/visits?limit=500")["visits"])}

    def stop(self) -> tuple[int, float]:
        """End the service; return its exit code and how long that took [s]."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.log.close()
        return code, time.monotonic() - began


class Steps:
    """What was done, and whether it came."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, list[dict[str, Any]]()

    def do(self, name: str, action: Callable[[], Any]) -> Any:
        """Do a step and write it down; a failure does not end the run."""
        began, result, error = time.monotonic(), None, None
        try:
            result = action()
        except Exception as err:  # of the page, Playwright, REST: all are findings
            error = f"{type(err).__name__}: {str(err).splitlines()[0][:300]}"
        row = {"step": name, "ok": error is None, "seconds": round(time.monotonic() - began, 1)}
        self.rows.append({**row, **({"error": error} if error else {"result": result})})
        self.path.write_text(json.dumps(self.rows, indent=1, default=str) + "\n")
        print(json.dumps(self.rows[-1], default=str), flush=True)
        return result


def waited(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return the first true value of a condition; TimeoutError after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(1)
    raise TimeoutError(what)


class Visitor:
    """Somebody at the page, in Chromium."""

    def __init__(self, page: Any, service: Service, patience_s: float) -> None:
        self.page, self.service, self.patience_s = page, service, patience_s
        page.set_default_timeout(patience_s * 1000)

    def enter(self) -> str:
        """Follow the printed address."""
        self.page.goto(self.service.address, wait_until="domcontentloaded")
        self.page.wait_for_url(f"{self.service.base}/")
        return str(self.page.title())

    def open(self, name: str, query: str = "") -> None:
        """Open a page and wait until it is filled."""
        self.page.goto(f"{self.service.base}/{PAGES[name]}{query}", wait_until="domcontentloaded")
        self.page.wait_for_selector("#content :not(.quiet)")
        self.page.get_by_text("Loading…").first.wait_for(state="hidden")

    def enrol(self) -> Any:
        """Enrol whoever walks past the gate, with live progress; it ends by itself."""
        self.open("people")
        self.page.get_by_role("button", name="Enrol somebody").click()
        box = self.page.get_by_role("dialog")
        box.get_by_label("Name").fill(ADA)
        box.get_by_label("Consent").fill("nobody real")
        box.get_by_label("Camera", exact=True).select_option("gate")
        box.get_by_role("button", name="Start").click()
        self.page.get_by_role("heading", name=f"Enrol {ADA}").wait_for()
        self.service.walk_again("gate")
        return waited(lambda: self._enrolled(), self.patience_s, "the enrolment did not end")

    def _enrolled(self) -> Any:
        state = self.service.get("/enrolment")
        ended = state and state["state"] in ("done", "failed", "stopped")
        if ended and state["state"] != "done":
            raise RuntimeError(state["message"])
        return state if ended else None

    def recognised(self) -> Any:
        """Wait until the person is named on another camera."""

        def named() -> Any:
            visits = self.service.get(f"/visits?person={ADA}&limit=500")["visits"]
            return [visit["camera"] for visit in visits if visit["camera"] != "gate"]

        self.service.walk_again("path", "yard", "lane")
        cameras = waited(named, self.patience_s, f"{ADA} was not named on another camera")
        self.open("visits", f"?person={ADA}")
        self.page.locator("ol.visits > li").first.wait_for()
        return cameras

    def name_unknown(self) -> Any:
        """Name an unknown; the past visits follow."""
        find = lambda: self.service.get("/unknowns")["unknowns"]  # noqa: E731
        unknown = waited(find, self.patience_s, "there is no unknown")[0]
        self.open("unknowns")
        card = self.page.locator(f"#unknown-{unknown['id']}")
        card.get_by_role("button", name="Name").click()
        box = self.page.get_by_role("dialog")
        box.get_by_label("Name").fill(BEN)
        box.get_by_label("Consent").fill("nobody real")
        box.get_by_role("button", name="Name").click()
        self.page.get_by_text(f"{BEN} is enrolled").first.wait_for()
        visits = self.service.get(f"/visits?person={BEN}")["visits"]
        assert len(visits) >= unknown["visits"], (len(visits), unknown["visits"])
        return {"unknown": unknown["label"], "visits": len(visits)}

    def merge_and_undo(self) -> Any:
        """Merge two people and take it back."""
        self.open("people")
        card = self.page.locator(".person", has=self.page.get_by_role("heading", name=ADA))
        card.locator(".menu > summary").click()
        card.get_by_role("button", name="Merge").click()
        box = self.page.get_by_role("dialog")
        box.get_by_label("The other one").select_option(BEN)
        box.get_by_role("button", name="Merge").click()
        self.page.get_by_role("button", name="Undo", exact=True).wait_for()
        merged = [person["name"] for person in self.service.get("/people")["people"]]
        self.page.get_by_role("button", name="Undo", exact=True).click()
        both = lambda: {p["name"] for p in self.service.get("/people")["people"]} >= {ADA, BEN}  # noqa: E731
        waited(both, self.patience_s, "the merge was not undone")
        assert BEN not in merged, merged
        return merged

    def correct(self) -> Any:
        """Say that a visit is wrong; it is remembered."""
        self.open("visits", f"?person={ADA}")
        item = self.page.locator("ol.visits > li").first
        number = str(item.get_attribute("id")).removeprefix("visit-")
        item.locator("summary").click()
        item.get_by_role("button", name="This is wrong").click()
        box = self.page.get_by_role("dialog")
        box.get_by_label("Person").select_option("")
        box.get_by_role("button", name="Correct").click()
        self.page.get_by_text("Corrected: nobody").first.wait_for()
        detail = self.service.get(f"/visits/{number}")
        assert detail["visit"]["person"] is None, detail["visit"]
        assert detail["corrections"][-1]["person"] is None
        return number

    def erase(self) -> Any:
        """Erase a person and find no byte of them in the data folder."""
        before = self._files_with(BEN)
        assert before, "the name was in no file"
        self.open("people")
        card = self.page.locator(".person", has=self.page.get_by_role("heading", name=BEN))
        card.locator(".menu > summary").click()
        card.get_by_role("button", name="Erase").click()
        self.page.get_by_role("dialog").get_by_role("button", name="Erase").click()
        self.page.get_by_text(f"{BEN} is erased").first.wait_for()
        assert self.service.get(f"/visits?person={BEN}")["visits"] == []
        gone = lambda: not self._files_with(BEN)  # noqa: E731
        waited(gone, 30, "a file of the data folder still holds the name")
        return {"files before": before, "after": self._files_with(BEN)}

    def _files_with(self, name: str) -> list[str]:
        mark = name.encode()
        files = (p for p in (self.service.folder / "data").rglob("*") if p.is_file())
        return [p.name for p in files if mark in p.read_bytes()]

    def _wait_for_pictures(self) -> None:
        """Let the recordings begin again, and wait until somebody is in view of two cameras."""
        self.service.walk_again(*CAMERAS)

        def seen() -> bool:
            self.page.wait_for_timeout(500)
            figures = self.page.locator(".figures").all_inner_texts()
            drawn = [note.strip() for note in self.page.locator(".note").all_inner_texts()]
            busy = sum("pers" in text or "people" in text for text in figures)
            return not any(drawn[:2]) and busy >= 2  # on a phone two are on the screen

        waited(seen, self.patience_s, "no pictures of two cameras with somebody in view")

    def look(self, out: Path, axe: str | None) -> Any:
        """Take a picture of every page in both sizes, judged by axe-core."""
        found = {}
        for width, height in SIZES:
            self.page.set_viewport_size({"width": width, "height": height})
            for name in PAGES:
                self.open(name)
                if name == "visits" and self.page.locator("ol.visits > li").count():
                    self.page.locator("ol.visits summary").first.click()
                if name == "now":
                    self._wait_for_pictures()
                self.page.wait_for_timeout(2000)
                self.page.screenshot(path=out / f"{name}-{width}.png")
                if axe is not None:
                    self.page.evaluate(axe)
                    run = "rules => axe.run(document, {runOnly: rules})"
                    found[f"{name} {width}"] = [
                        v["id"] for v in self.page.evaluate(run, RULES)["violations"]
                    ]
        assert not any(found.values()), found
        return {"pages": len(found), "axe": axe is not None}


def main() -> int:
    """Run all steps."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/browser"))
    parser.add_argument("--axe", type=Path, help="axe.min.js of axe-core")
    parser.add_argument("--people", type=int, default=3, help="walkers on the street")
    parser.add_argument("--fps", type=int, default=10)
    parser.add_argument("--live", action="store_true", help="cameras, not recordings")
    parser.add_argument("--patience", type=float, default=240, help="seconds for each step")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    options.out.mkdir(parents=True, exist_ok=True)
    axe = options.axe.read_text(encoding="utf-8") if options.axe else None
    steps = Steps(options.out / "steps.json")
    service = Service(options.out / "site", options.people, options.fps, live=options.live)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        visitor = Visitor(browser.new_page(), service, options.patience)
        steps.do("enter by the printed address", visitor.enter)
        steps.do("strangers walk by", lambda: service.wait_for_ends(options.patience))
        steps.do("enrol by walking past", visitor.enrol)
        steps.do("recognised on another camera", visitor.recognised)
        steps.do("name an unknown", visitor.name_unknown)
        steps.do("merge and undo", visitor.merge_and_undo)
        steps.do("correct a wrong answer", visitor.correct)
        steps.do("look at every page", lambda: visitor.look(options.out, axe))
        steps.do("erase, and no byte left", visitor.erase)
        browser.close()
    code, seconds = service.stop()
    steps.do("end by SIGTERM", lambda: {"exit": code, "seconds": round(seconds, 1)})
    return 0 if all(row["ok"] for row in steps.rows) and code == 143 else 1


if __name__ == "__main__":
    sys.exit(main())
