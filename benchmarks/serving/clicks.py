"""Further clicks of a visitor: videos, a visit that is enrolled, rename, export, health, login."""

from __future__ import annotations

import base64
import zipfile
from pathlib import Path
from typing import Any

from serving.running import wait_for
from serving.visitor import CONSENT, Visitor, demand

SIDES = ("Model card", "Doctor", "Logins", "Audit log")  # of Health, each opened with a click
DROP = """data => { const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
const files = new DataTransfer();
files.items.add(new File([bytes], "walk.mp4", {type: "video/mp4"}));
return files; }"""
LIT = """() => { const c = document.querySelector("#test canvas");
const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
let n = 0; for (let i = 0; i < d.length; i += 400) n += d[i] > 0; return n; }"""


class Clicks:
    """What a visitor does once in a while."""

    def __init__(self, visitor: Visitor, out: Path) -> None:
        """Take over a visitor's page.

        Args:
            visitor: Logged in, as admin.
            out: Folder of the pictures.
        """
        self.visitor, self.page, self.out = visitor, visitor.page, out
        self.service = visitor.service

    def enrol_from_video(self, person: str, video: Path) -> Any:
        """Enrol somebody from a video that is dropped on the page.

        Args:
            person: The name.
            video: One person walks in it.
        """
        box = self._enrol_dialog(person)
        box.get_by_label("From a video").check()
        data = base64.b64encode(video.read_bytes()).decode()
        files = self.page.evaluate_handle(DROP, data)
        self.page.dispatch_event(".drop", "drop", {"dataTransfer": files})
        box.get_by_text("walk.mp4").wait_for()
        self._picture("enrol-video")
        box.get_by_role("button", name="Start").click()
        wait_for(lambda: self._names() >= {person}, self.visitor.patience_s, f"{person} enrolled")
        return self.service.get("/enrolment")["message"]

    def identify(self, video: Path, person: str) -> str:
        """Ask who walks in a video.

        Args:
            video: Of somebody enrolled.
            person: Who it is.
        """
        self.visitor.open("people")
        self.page.set_input_files("#identify-file", str(video))
        box = self.page.get_by_role("dialog")
        box.get_by_text("Nothing of the video is kept").wait_for()
        self._picture("identify")
        text = str(box.inner_text())
        self.page.keyboard.press("Escape")
        demand(person in text, text)
        return text[:200]

    def enrol_from_visit(self, person: str) -> str:
        """Enrol whoever a visit of somebody unknown shows.

        person: the name
        """

        def walks() -> Any:
            groups = self.service.get("/unknowns")["unknowns"]
            largest = max(groups, key=lambda group: group["visits"])["id"] if groups else None
            visits = self.service.get("/visits?answer=unknown&limit=200")["visits"]
            whole = [v for v in visits if v["has_walk"] and v["ended_utc"]]
            ended = [v for v in whole if not v["corrected_by"]]  # else it matches who it is not
            return [v for v in ended if v["cluster"] == largest]

        visit = wait_for(walks, self.visitor.patience_s, "an unknown with a walk")[0]["id"]
        self.visitor.open("visits", "?answer=unknown")
        item = self.page.locator(f"#visit-{visit}")
        item.locator("summary").click()
        item.get_by_role("button", name="Enrol").click()
        box = self.page.get_by_role("dialog")
        box.get_by_label("Name").fill(person)
        box.get_by_label("Consent").fill(CONSENT)
        self._picture("enrol-visit")
        box.get_by_role("button", name="Start").click()
        wait_for(lambda: self._names() >= {person}, self.visitor.patience_s, f"{person} enrolled")
        return str(visit)

    def rename_and_export(self, person: str, name: str) -> Any:
        """Rename somebody, whose former name is in no file then, and export them.

        Args:
            person: Who is enrolled.
            name: The new name.
        """
        self._menu(person, "Rename")
        box = self.page.get_by_role("dialog")
        box.get_by_label("Name").fill(name)
        box.get_by_role("button", name="Save").click()
        wait_for(lambda: name in self._names(), 60, "the new name")
        self.visitor.open("people")
        with self.page.expect_download() as download:
            self._menu(name, "Export", opened=True)
        members = zipfile.ZipFile(download.value.path()).namelist()
        demand(members, "the export is empty")
        left = self.service.files_with(person)
        demand(not left, f"the former name is in {left}")
        return {"file": download.value.suggested_filename, "members": len(members)}

    def erase_unknown(self) -> str:
        """Erase a group of unknowns with its visits."""
        listed = self.service.get("/unknowns")["unknowns"]
        demand(listed, "there is no unknown")
        unknown = listed[-1]
        self.visitor.open("unknowns")
        card = self.page.locator(f"#unknown-{unknown['id']}")
        card.locator("summary").click()
        card.get_by_role("button", name="Erase").click()
        self._picture("erase-unknown")
        self.page.get_by_role("dialog").get_by_role("button", name="Erase").click()
        card.wait_for(state="detached")
        left = {one["id"] for one in self.service.get("/unknowns")["unknowns"]}
        demand(unknown["id"] not in left, "it is still listed")
        return str(unknown["label"])

    def health(self) -> Any:
        """See a camera's test picture, and open every part of Health."""
        self.service.walk_again("gate")
        self.visitor.open("health")
        self.page.get_by_role("button", name="Show", exact=True).click()

        def lit() -> Any:
            self.page.wait_for_timeout(300)
            return self.page.evaluate(LIT)

        pixels = wait_for(lit, self.visitor.patience_s, "the test picture")
        for side in SIDES:
            card = self.page.locator(
                "details.card", has=self.page.get_by_role("heading", name=side)
            )
            card.locator("summary").click()
            card.get_by_text("Loading…").wait_for(state="detached")
            demand(len(card.inner_text()) > len(side) + 10, f"{side} is empty")
        self._picture("health-open", full=True)
        return {"lit": pixels}

    def log_out_and_in(self) -> str:
        """Log out, see nothing, and come in again with the token as password."""
        self.visitor.open("now")
        self.page.get_by_role("button", name="Log out").click()
        field = self.page.get_by_label("Password")
        field.wait_for()
        self._picture("login")
        field.fill("wrong " + self.service.token)
        self.page.get_by_role("button", name="Log in").click()
        self.page.locator("#error:not([hidden])").wait_for()
        self._picture("login-wrong")
        self.page.get_by_label("Password").fill(self.service.token)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_selector("#wall")
        return str(self.page.url)

    def _enrol_dialog(self, person: str) -> Any:
        self.visitor.open("people")
        self.page.get_by_role("button", name="Enrol somebody").click()
        box = self.page.get_by_role("dialog")
        box.get_by_label("Name").fill(person)
        box.get_by_label("Consent").fill(CONSENT)
        return box

    def _menu(self, person: str, entry: str, *, opened: bool = False) -> None:
        """Click on an entry of a person's menu.

        Args:
            person: Whose.
            entry: Its words.
            opened: Whether People is on the screen.
        """
        if not opened:
            self.visitor.open("people")
        heading = self.page.get_by_role("heading", name=person)
        card = self.page.locator(".person", has=heading)
        card.locator(".menu > summary").click()
        self._picture(f"menu-{entry.lower()}")
        card.get_by_role("button", name=entry).click()

    def _names(self) -> set[str]:
        return {str(person["name"]) for person in self.service.get("/people")["people"]}

    def _picture(self, name: str, *, full: bool = False) -> None:
        width = self.page.viewport_size["width"]
        self.page.screenshot(path=self.out / f"click-{name}-{width}.png", full_page=full)
