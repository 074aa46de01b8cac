"""The pages in a real Chromium: WCAG 2.2 AA by axe-core, phone and desktop, and a neighbour's page.

Slow, and skipped where Playwright, Chromium (/usr/bin/chromium, or CHROMIUM) or axe-core
(AXE=path of axe.min.js, from npm) are missing. `benchmarks/serve/browser.py` drives a service.
"""

import http.server
import os
import shutil
import threading
from pathlib import Path

import pytest
from standin_front import ago
from standin_page import Running, free_port

from cstl_edge.serve.store import Store
from cstl_edge.serve.store_rows import PersonRow, VisitRow

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
AXE = os.environ.get("AXE")
if CHROMIUM is None:
    pytest.skip("there is no Chromium", allow_module_level=True)
PAGES = ("", "visits", "unknowns", "people", "health")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def service(make_page):
    page = make_page(page={"port": free_port()}, keep={"unknowns": {"enabled": True}})
    fill(page.front.site.data)
    with Running(page) as running:
        yield running


def fill(folder):
    store = Store(folder)
    store.set_people([PersonRow(name="Ada", created_utc=ago(9), walks=2, views=(("left", 2),))])
    store.write("INSERT INTO clusters (id, label) VALUES (7, 'Unknown 7')")
    for number, answer in enumerate(("known", "unknown", "none")):
        row = {
            "id": f"v{number}",
            "camera": "door",
            "started_utc": ago(number * 5 + 2),
            "seen_utc": ago(number * 5 + 1),
            "ended_utc": ago(number * 5 + 1),
            "journey": "j",
            "answer": answer,
            "person": "Ada" if answer == "known" else None,
            "cluster": 7 if answer == "unknown" else None,
            "distance": 0.3,
            "threshold": 0.4,
            "has_walk": True,
        }
        store.put_visit(VisitRow(**row))
    store.close()


def entered(chromium, service, **options):
    """Return a page that has followed the printed address, and what its console complained of."""
    context = chromium.new_context(**options)
    page = context.new_page()
    complaints = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    base = f"http://127.0.0.1:{service.port}"
    page.goto(f"{base}/?token={service.page.token}", wait_until="domcontentloaded")
    page.wait_for_url(f"{base}/", timeout=PATIENCE_MS)
    return page, complaints


def open_page(page, service, name):
    page.goto(f"http://127.0.0.1:{service.port}/{name}", wait_until="domcontentloaded")
    page.wait_for_selector("#content :not(.quiet)", timeout=PATIENCE_MS)
    page.get_by_text("Loading…").first.wait_for(state="hidden", timeout=PATIENCE_MS)


def violations(page):
    page.evaluate(Path(AXE).read_text(encoding="utf-8"))
    found = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)["violations"]
    return [(v["id"], [n["html"][:100] for n in v["nodes"]]) for v in found]


@pytest.mark.skipif(AXE is None, reason="AXE names no axe.min.js")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_meets_wcag_at_every_width(chromium, service, scheme):
    page, complaints = entered(chromium, service, color_scheme=scheme)
    for width in (1440, 390, 320):
        page.set_viewport_size({"width": width, "height": 800})
        for name in PAGES:
            open_page(page, service, name)
            if name == "visits":
                page.locator("summary", has_text="Ada").click()
                page.get_by_role("button", name="This is wrong").wait_for(timeout=PATIENCE_MS)
            assert violations(page) == [], (name, width)
            overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert overflow <= 0, (name, width)
    assert complaints == []


@pytest.mark.skipif(AXE is None, reason="AXE names no axe.min.js")
def test_dialogs_meet_wcag_and_keep_the_focus(chromium, service):
    page, complaints = entered(chromium, service, viewport={"width": 390, "height": 800})
    open_page(page, service, "people")
    page.get_by_role("button", name="Enrol somebody").press("Enter")
    box = page.get_by_role("dialog")
    box.wait_for(timeout=PATIENCE_MS)
    assert violations(page) == []
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    page.keyboard.press("Escape")
    box.wait_for(state="hidden")
    assert complaints == []


def test_pictures_come_and_can_be_paused(chromium, service):
    import cv2
    import numpy as np

    page, _ = entered(chromium, service)
    jpeg = cv2.imencode(".jpg", np.full((36, 64, 3), 200, np.uint8))[1].tobytes()
    tile = page.locator('[data-camera="door"]')
    for number in range(600):
        service.show(jpeg, number)
        page.wait_for_timeout(100)
        if tile.locator(".note").inner_text() == "":
            break
    assert page.evaluate("document.querySelector('[data-camera=door] canvas').width") == 64
    page.get_by_role("button", name="Pause", exact=True).click()
    for _ in range(600):
        if service.page.front.watched.get(("door", "boxes")) == 0:
            break
        page.wait_for_timeout(100)
    assert service.page.front.watched["door", "boxes"] == 0


NEIGHBOUR = """<!doctype html><title>waiting</title><img id="image"><script>
const base = "http://127.0.0.1:%d", told = [];
const note = (what) => (answer) => told.push([what, String(answer)]);
(async () => {
  for (const mode of ["cors", "no-cors"]) {
    const ask = (what, path, more) => fetch(base + path, {credentials: "include", mode, ...more})
      .then((r) => r.text()).then((text) => told.push([what + mode, text]), note("no"));
    await ask("read ", "/api/v1/people", {});
    await ask("post ", "/api/v1/people/Ada/merge", {method: "POST", body: "x"});
  }
  await new Promise((done) => {
    const socket = new WebSocket("ws://127.0.0.1:%d/live", ["cstl-edge"]);
    socket.onmessage = (m) => { told.push(["socket", m.data]); done(); }; socket.onerror = done; });
  await new Promise((done) => { const image = document.getElementById("image");
    image.onload = () => { told.push(["image", "shown"]); done(); }; image.onerror = done;
    image.src = base + "/api/v1/cameras/door/picture"; });
  document.told = told; document.title = "done";
})();
</script>"""


def test_a_page_on_another_port_gets_nothing(chromium, service):
    page, _ = entered(chromium, service)
    text = (NEIGHBOUR % (service.port, service.port)).encode()
    cookies = []

    class Neighbour(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            cookies.append(self.headers.get("cookie"))
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Neighbour)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    service.page.front.show("door")
    try:
        page.goto(f"http://127.0.0.1:{server.server_port}/", wait_until="domcontentloaded")
        for _ in range(600):
            if page.title() == "done":
                break
            page.wait_for_timeout(100)
        told = page.evaluate("document.told")
    finally:
        server.shutdown()
        server.server_close()
    assert any("cstl_edge_" in (cookie or "") for cookie in cookies)  # ports do not part cookies
    assert [(what, text) for what, text in told if what not in ("no",) and text] == []
    assert service.page.front.done() == []


def test_another_name_of_this_machine_gets_nothing(chromium, service):
    browser = chromium.browser_type.launch(
        executable_path=CHROMIUM,
        args=["--no-sandbox", "--host-resolver-rules=MAP evil.example 127.0.0.1"],
    )
    answer = browser.new_page().goto(
        f"http://evil.example:{service.port}/?token={service.page.token}"
    )
    assert answer.status == 421
    assert "Ada" not in answer.text()
    browser.close()
