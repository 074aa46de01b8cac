"""Somebody at the page of a service, in a real browser: every click of the browser's run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving.running import wait_for
from serving.street import CAMERAS, StreetService

PAGES = {
    "now": "",
    "visits": "visits",
    "unknowns": "unknowns",
    "people": "people",
    "health": "health",
}
SIZES = ((1440, 900), (390, 844))
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
NARROW = 320  # pixels, to which every page has to reflow
CONSENT = "nobody real"


class Visitor:
    """Somebody at the page, in Chromium."""

    def __init__(self, page: Any, service: StreetService, patience_s: float) -> None:
        """Sit down at a page.

        Args:
            page: Of Playwright.
            service: Whose page it is.
            patience_s: How long anything may take.
        """
        self.page, self.service, self.patience_s = page, service, patience_s
        self.complaints: list[str] = []
        page.set_default_timeout(patience_s * 1000)
        page.on("pageerror", lambda error: self.complaints.append(str(error)[:300]))

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

    def enrol(self, person: str) -> Any:
        """Enrol whoever walks to the gate and back; it ends by itself, and progress by side moves.

        person: the name
        """
        self.open("people")
        self.page.get_by_role("button", name="Enrol somebody").click()
        box = self.page.get_by_role("dialog")
        box.get_by_label("Name").fill(person)
        box.get_by_label("Consent").fill(CONSENT)
        box.get_by_label("Camera", exact=True).select_option("gate")
        box.get_by_role("button", name="Start").click()
        self.page.get_by_role("heading", name=f"Enrol {person}").wait_for()
        if {c["state"] for c in self.service.get("/cameras")} == {"ended"}:
            self.service.walk_again(*CAMERAS)
        progress: list[Any] = []

        def ended() -> Any:
            state = self.service.get("/enrolment")
            now = [state["windows"], state["views"]]
            if not progress or progress[-1] != now:
                progress.append(now)
            return state if state["state"] in ("done", "failed", "stopped") else None

        state = wait_for(ended, self.patience_s, "the end of the enrolment")
        if state["state"] != "done":
            raise RuntimeError(f"{state['message']} {progress}")
        if len(progress) < 3 or len(state["views"]) < 2:
            raise RuntimeError(f"the progress by side did not move: {progress}")
        self.page.get_by_role("dialog").wait_for(state="hidden")
        return {"windows": state["windows"], "views": state["views"], "progress": progress}

    def recognised(self, person: str) -> Any:
        """Wait until a person is named on another camera, and see it on the page.

        person: enrolled at the gate
        """

        def named() -> Any:
            visits = self.service.get(f"/visits?person={person}&limit=500")["visits"]
            return sorted({visit["camera"] for visit in visits if visit["camera"] != "gate"})

        cameras = wait_for(named, self.patience_s, f"{person} named on another camera")
        self.open("visits", f"?person={person}&camera={cameras[0]}")
        self.page.locator("ol.visits > li", has_text=person).first.wait_for()
        return cameras

    def name_unknown(self, person: str) -> Any:
        """Give the unknown with the most visits a name; the past visits follow.

        person: the name
        """

        def unknowns() -> Any:
            return self.service.get("/unknowns")["unknowns"]

        listed = wait_for(unknowns, self.patience_s, "an unknown")
        unknown = max(listed, key=lambda one: one["visits"])
        self.open("unknowns")
        card = self.page.locator(f"#unknown-{unknown['id']}")
        card.get_by_role("button", name="Name").click()
        box = self.page.get_by_role("dialog")
        box.get_by_label("Name").fill(person)
        box.get_by_label("Consent").fill(CONSENT)
        box.get_by_role("button", name="Name").click()
        self.page.get_by_text(f"{person} is enrolled").first.wait_for()
        visits = self.service.get(f"/visits?person={person}")["visits"]
        demand(len(visits) >= unknown["visits"], (len(visits), unknown["visits"]))
        return {"unknown": unknown["label"], "visits": len(visits)}

    def merge_and_undo(self, person: str, other: str) -> Any:
        """Merge two people and take it back: visits are as before.

        Args:
            person: Who stays.
            other: Who goes.
        """
        before = self._visits_of(person), self._visits_of(other)
        self.open("people")
        card = self._card(person)
        card.locator(".menu > summary").click()
        card.get_by_role("button", name="Merge").click()
        box = self.page.get_by_role("dialog")
        box.get_by_label("The other one").select_option(other)
        box.get_by_role("button", name="Merge").click()
        self.page.get_by_role("button", name="Undo", exact=True).wait_for()
        demand(other not in self._names(), self._names())
        demand(self._visits_of(person) >= before[0] | before[1], "visits were lost by the merge")
        self.page.get_by_role("button", name="Undo", exact=True).click()
        wait_for(lambda: {person, other} <= self._names(), self.patience_s, "the merge undone")
        after = self._visits_of(person), self._visits_of(other)
        demand(after[0] >= before[0] and after[1] >= before[1], "visits were lost by the undoing")
        return {"visits": [len(visits) for visits in after]}

    def correct(self, person: str) -> Any:
        """Say that a visit is wrong: it was nobody enrolled; it is remembered.

        person: whose newest visit it is said to be
        """
        self.open("visits", f"?person={person}")
        item = self.page.locator("ol.visits > li").first
        number = str(item.get_attribute("id")).removeprefix("visit-")
        item.locator("summary").click()
        item.get_by_role("button", name="This is wrong").click()
        box = self.page.get_by_role("dialog")
        box.get_by_label("Person").select_option("")
        box.get_by_role("button", name="Correct").click()
        self.page.get_by_text("Corrected: nobody").first.wait_for()
        detail = self.service.get(f"/visits/{number}")
        demand(detail["visit"]["person"] is None, detail["visit"])
        demand(detail["corrections"][-1]["person"] is None, detail["corrections"])
        return number

    def erase(self, person: str) -> Any:
        """Erase a person and find no byte: events, pictures, clips, outbox, retained topics.

        person: who has visits with pictures and clips
        """
        service = self.service
        held = service.files_with(person)
        demand(held, "the name was in no file")
        visits = service.get(f"/visits?person={person}&limit=500")["visits"]
        urls = [v[k] for v in visits for k in ("snapshot_url", "strip_url", "clip_url") if v[k]]
        files = service.media()
        topics = _with(service.retained(), person)
        demand(topics or service.broker is None, "the name was in no retained topic")
        self.open("people")
        card = self._card(person)
        card.locator(".menu > summary").click()
        card.get_by_role("button", name="Erase").click()
        self.page.get_by_role("dialog").get_by_role("button", name="Erase").click()
        self.page.get_by_text(f"{person} is erased").first.wait_for()
        demand(service.get(f"/visits?person={person}")["visits"] == [], "visits are left")
        gone = {visit["id"] for visit in visits}
        left = [e for e in service.events() if e["visit"] in gone]
        demand(not left, f"{len(left)} events of their visits are left")
        wait_for(lambda: not service.files_with(person), 30, "no file with the name")
        demand(len(files - service.media()) >= len(urls), "a picture or clip is left")
        wait_for(
            lambda: not _with(service.retained(), person), 30, "no retained topic with the name"
        )
        return {"files before": held, "pictures and clips": len(urls), "topics": sorted(topics)}

    def look(self, out: Path, axe: str | None) -> Any:
        """Take a picture of every page in both sizes, judged by axe-core; none is cut at 320 px.

        Args:
            out: Folder of the pictures.
            axe: Text of axe.min.js, None to leave it out.
        """
        found: dict[str, list[str]] = {}
        for width, height in SIZES:
            for name in PAGES:
                self.page.set_viewport_size({"width": width, "height": height})
                self.open(name)
                if name == "visits":
                    self._open_one_with_a_clip()
                if name == "now":
                    self._wait_for_pictures()
                self.page.wait_for_timeout(1500)
                for scheme, mark in (("light", ""), ("dark", "-dark")):
                    self.page.emulate_media(color_scheme=scheme)
                    self.page.screenshot(path=out / f"{name}-{width}{mark}.png")
                    if axe is not None:
                        found[f"{name} {width} {scheme}"] = self._violations(axe)
                self.page.emulate_media(color_scheme="light")
                self.page.set_viewport_size({"width": NARROW, "height": height})
                cut = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
                demand(cut <= 0, f"{name} is {cut} pixels too wide for {NARROW}")
        demand(not any(found.values()), found)
        return {"pages": len(PAGES) * len(SIZES), "schemes": 2, "axe": axe is not None}

    def _violations(self, axe: str) -> list[str]:
        """Return what axe-core finds on the page.

        axe: text of axe.min.js
        """
        self.page.evaluate(axe)
        run = "rules => axe.run(document, {runOnly: rules})"
        return [v["id"] for v in self.page.evaluate(run, RULES)["violations"]]

    def _open_one_with_a_clip(self) -> None:
        """Open the newest visit with a clip, and see that the browser plays it."""
        for visit in self.service.get("/visits?limit=40")["visits"]:
            if visit["clip_url"]:
                item = self.page.locator(f"#visit-{visit['id']}")
                item.locator("summary").click()
                item.locator("video").wait_for()
                length = "e => new Promise(r => e.readyState ? r(e.duration) : (e.onloadedmetadata"
                length += " = () => r(e.duration), e.onerror = () => r(0)))"
                demand(item.locator("video").evaluate(length) > 0, "the clip does not play")
                return
        raise RuntimeError("no visit has a clip")

    def _wait_for_pictures(self) -> None:
        """Let the recordings begin again, and wait until somebody is in view of two cameras."""
        self.service.walk_again(*CAMERAS)

        def seen() -> bool:
            self.page.wait_for_timeout(300)
            figures = self.page.locator(".figures").all_inner_texts()
            drawn = [note.strip() for note in self.page.locator(".note").all_inner_texts()]
            busy = sum("pers" in text or "people" in text for text in figures)
            return not any(drawn[:2]) and busy >= 2  # on a phone two are on the screen

        wait_for(seen, self.patience_s, "pictures of two cameras with somebody in view")

    def _card(self, person: str) -> Any:
        return self.page.locator(".person", has=self.page.get_by_role("heading", name=person))

    def _names(self) -> set[str]:
        return {str(person["name"]) for person in self.service.get("/people")["people"]}

    def _visits_of(self, person: str) -> set[str]:
        visits = self.service.get(f"/visits?person={person}&limit=500")["visits"]
        return {str(visit["id"]) for visit in visits}


def _with(topics: dict[str, str], name: str) -> list[str]:
    """Return the topics that hold a name, in themselves or their payload."""
    mark = name.casefold()
    return [t for t, payload in topics.items() if mark in t.casefold() + payload.casefold()]


def demand(holds: object, otherwise: object) -> None:
    """Raise RuntimeError, saying what is, where something does not hold."""
    if not holds:
        raise RuntimeError(str(otherwise))
