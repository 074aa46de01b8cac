"""A whole service in a real Chromium: enrol, recognise, name, merge and undo, correct, erase.

    python benchmarks/serve/browser.py --out runs/browser --axe node_modules/axe-core/axe.min.js

Four synthetic cameras around one street, of which one is a gate where people turn back; needs
Playwright (`pip install playwright`), Chromium and, for what is about MQTT, mosquitto. Two
visitors, at 1440 and at 390 pixels, do everything. By default each camera plays one period of the
street as a recording, of which a slow machine loses no frame, and begins again when the page
restarts it; `--live` has cameras that drop what is late. Writes steps.jsonl (what was done and
whether it came), and a screenshot of every page. Exit code 1 where a step failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from serving import strangers
from serving.clicks import Clicks
from serving.street import StreetService
from serving.visitor import SIZES, Visitor
from study import append_record

# names that no file has by chance: enrolled at the gate, and unknowns that get a name
ADA, CYD, BEN, DOT = "Adalindis", "Cydalima", "Benvenuto", "Dorotheus"
EVE, EVA, VID, VIA = "Evelinde", "Evangelos", "Vidalbert", "Viatorix"  # by the further clicks
SEED = 4  # of a street whose people come to the gate one after the other, and on to the others


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
        append_record(self.path, "serve/browser", self.rows[-1])
        print(json.dumps(self.rows[-1], default=str), flush=True)
        return result


def mqtt(service: StreetService, named: str, gone: str) -> Any:
    """Look at what a client of the broker got: events with names, and the house in Home Assistant.

    Args:
        service: With a broker.
        named: Somebody whose name came as an event.
        gone: Somebody who was erased.
    """
    if service.broker is None:
        return {"left_out": "mosquitto is not installed (Debian: apt-get install mosquitto)"}
    events = list(service.broker.events)
    if not any(event["person"] == named for event in events):
        raise RuntimeError(f"no event named {named}")
    if not all(event["schema"] == 2 for event in events):
        raise RuntimeError("an event has another schema")
    retained = service.retained()
    config = [topic for topic in retained if topic.startswith("homeassistant/device/")]
    if not config or named not in retained[config[0]] or gone in retained[config[0]]:
        raise RuntimeError(f"Home Assistant is not told who is enrolled: {sorted(retained)}")
    kinds = sorted({event["event"] for event in events})
    return {"events": len(events), "kinds": kinds, "retained topics": len(retained)}


def journey(
    steps: Steps, service: StreetService, visitors: list[Visitor], out: Path, axe: str | None
) -> None:
    """Do every step.

    Args:
        steps: Written down as they are done.
        service: Just started.
        visitors: At a desk and with a phone.
        out: Folder of the pictures.
        axe: Text of axe.min.js.
    """
    desk, phone = visitors
    patience_s = desk.patience_s
    for visitor, (width, _) in zip(visitors, SIZES, strict=True):
        steps.do(f"enter by the printed address, {width}", visitor.enter)
    steps.do("strangers walk by", lambda: service.wait_for_ends(patience_s))
    steps.do("enrol by walking past, 390", lambda: phone.enrol(ADA))
    steps.do("enrol by walking past, 1440", lambda: desk.enrol(CYD))
    steps.do("recognised on another camera, 390", lambda: phone.recognised(ADA))
    steps.do("recognised on another camera, 1440", lambda: desk.recognised(CYD))
    steps.do("everybody has gone", lambda: service.wait_for_ends(patience_s))
    steps.do("name an unknown, 1440", lambda: desk.name_unknown(BEN))
    steps.do("name an unknown, 390", lambda: phone.name_unknown(DOT))
    steps.do("merge and undo, 1440", lambda: desk.merge_and_undo(ADA, BEN))
    steps.do("merge and undo, 390", lambda: phone.merge_and_undo(CYD, DOT))
    steps.do("correct a wrong answer, 1440", lambda: desk.correct(ADA))
    steps.do("correct a wrong answer, 390", lambda: phone.correct(CYD))
    steps.do("erase, and no byte left, 1440", lambda: desk.erase(BEN))
    steps.do("erase, and no byte left, 390", lambda: phone.erase(DOT))
    steps.do("messages of MQTT", lambda: mqtt(service, ADA, BEN))
    further_clicks(steps, desk, phone, out)
    steps.do("look at every page", lambda: desk.look(out, axe))
    steps.do("a page on another port", lambda: strangers.neighbour(phone.page, service, ADA))
    steps.do("another name of this machine", lambda: strangers.wrong_host(service))
    steps.do("an intruder", lambda: strangers.intruder(service))
    steps.do("nothing went wrong in the browser", lambda: _no_complaints(visitors))


def further_clicks(steps: Steps, desk: Visitor, phone: Visitor, out: Path) -> None:
    """Do what is done once in a while, at the desk and with the phone.

    Args:
        steps: Written down as they are done.
        desk: At 1440 pixels.
        phone: At 390 pixels.
        out: Folder of the pictures and of the videos.
    """
    for visitor, width, person, other, seed in (
        (desk, 1440, EVE, VID, 77),
        (phone, 390, EVA, VIA, 78),
    ):
        clicks, renamed = Clicks(visitor, out), f"{other[:3]}ensis"
        video = one_walker(out / f"walk-{seed}.mp4", seed)
        steps.do(f"health, {width}", clicks.health)
        steps.do(
            f"enrol from a dropped video, {width}", partial(clicks.enrol_from_video, other, video)
        )
        steps.do(f"identify a video, {width}", partial(clicks.identify, video, other))
        steps.do(f"enrol from a visit, {width}", partial(clicks.enrol_from_visit, person))
        steps.do(f"rename and export, {width}", partial(clicks.rename_and_export, other, renamed))
        steps.do(f"erase an unknown, {width}", clicks.erase_unknown)
        steps.do(f"log out and in, {width}", clicks.log_out_and_in)


def one_walker(path: Path, seed: int) -> Path:
    """Write a video of one synthetic person; return its path.

    Args:
        path: To write.
        seed: Of the person.
    """
    import cv2

    from cstl_edge.live.sources.open import open_source

    writer = None
    with open_source(f"synthetic://1?seed={seed}&fps=12") as source:
        for frame in source:
            if writer is None:
                height, width = frame.image.shape[:2]
                code = cv2.VideoWriter.fourcc(*"mp4v")
                writer = cv2.VideoWriter(str(path), code, 12, (width, height))
            writer.write(frame.image)
    if writer is None:
        raise RuntimeError("nobody walks")
    writer.release()
    return path


def _no_complaints(visitors: list[Visitor]) -> int:
    complaints = [text for visitor in visitors for text in visitor.complaints]
    if complaints:
        raise RuntimeError("; ".join(complaints))
    return len(complaints)


def main() -> int:
    """Run all steps."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/browser"))
    parser.add_argument("--axe", type=Path, help="axe.min.js of axe-core")
    parser.add_argument("--people", type=int, default=4, help="walkers on the street")
    parser.add_argument("--seed", type=int, default=SEED, help="of the street")
    parser.add_argument("--fps", type=int, default=10)
    parser.add_argument("--live", action="store_true", help="cameras, not recordings")
    parser.add_argument("--patience", type=float, default=240, help="seconds for each step")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    options.out.mkdir(parents=True, exist_ok=True)
    axe = options.axe.read_text(encoding="utf-8") if options.axe else None
    steps = Steps(options.out / "steps.jsonl")
    steps.path.unlink(missing_ok=True)
    street = options.people, options.fps, options.seed
    service = StreetService(options.out / "site", *street, live=options.live)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        pages = [
            browser.new_context(viewport={"width": width, "height": height}).new_page()
            for width, height in SIZES
        ]
        visitors = [Visitor(page, service, options.patience) for page in pages]
        journey(steps, service, visitors, options.out, axe)
        browser.close()
    code, seconds = service.stop()
    steps.do("end by SIGTERM", lambda: {"exit": code, "seconds": round(seconds, 1)})
    return 0 if all(row["ok"] for row in steps.rows) and code == 143 else 1


if __name__ == "__main__":
    sys.exit(main())
