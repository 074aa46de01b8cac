"""Who must get nothing of a page: a neighbour's port, another name, another address, no token."""

from __future__ import annotations

import http.client
import http.server
import socket
import threading
import urllib.error
import urllib.request
from typing import Any

from serving.street import StreetService

NEIGHBOUR = """<!doctype html><title>waiting</title><img id="image"><script>
const base = "http://127.0.0.1:%d", taken = [];
(async () => {
  for (const mode of ["cors", "no-cors"]) {
    const ask = (what, path, more) => fetch(base + path, {credentials: "include", mode, ...more})
      .then((r) => r.text()).then((text) => text && taken.push([what + mode, text]), () => 0);
    await ask("read ", "/api/v1/people", {});
    await ask("post ", "/api/v1/people/%s/merge", {method: "POST", body: "x"});
  }
  await new Promise((done) => {
    const socket = new WebSocket("ws://127.0.0.1:%d/live", ["cstl-edge"]);
    socket.onmessage = (m) => { taken.push(["socket", m.data]); done(); };
    socket.onerror = done; });
  await new Promise((done) => { const image = document.getElementById("image");
    image.onload = () => { taken.push(["image", "shown"]); done(); }; image.onerror = done;
    image.src = base + "/api/v1/cameras/gate/picture"; });
  document.taken = taken; document.title = "done";
})();
</script>"""


def neighbour(page: Any, service: StreetService, person: str) -> Any:
    """Open a page of another port of this host in the browser that is logged in; it gets nothing.

    Args:
        page: Of Playwright, logged in.
        service: Whose page it is.
        person: Enrolled.
    """
    text = (NEIGHBOUR % (service.port, person, service.port)).encode()
    cookies: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cookies.append(self.headers.get("cookie") or "")
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/"
        page.goto(address, wait_until="domcontentloaded")
        page.wait_for_function("document.title === 'done'")
        taken = page.evaluate("document.taken")
    finally:
        server.shutdown()
        server.server_close()
    if taken:
        raise RuntimeError(f"the neighbour got {taken}")
    if person not in {one["name"] for one in service.get("/people")["people"]}:
        raise RuntimeError("the neighbour changed something")
    return {"had the cookie": any("cstl_edge_" in cookie for cookie in cookies)}


def wrong_host(service: StreetService) -> Any:
    """Ask for everything under another name of this machine, with the right token: refused."""
    answers = {}
    for path in ("/", "/api/v1/people", "/livez", "/metrics", "/live"):
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
        headers = {"Host": "evil.example", "Authorization": f"Bearer {service.token}"}
        connection.request("GET", path, headers=headers)
        answers[path] = connection.getresponse().status
        connection.close()
    if set(answers.values()) != {421}:
        raise RuntimeError(f"expected 421 everywhere, got {answers}")
    return answers


def intruder(service: StreetService) -> Any:
    """Come from another address of this machine, and without a login: nothing is answered."""
    refused = []
    for address in _other_addresses():
        try:
            with socket.create_connection((address, service.port), 5):
                raise RuntimeError(f"the page answers at {address}")
        except OSError:
            refused.append(address)
    answers = {}
    for path in ("/api/v1/people", "/api/v1/visits", "/api/v1/events", "/metrics"):
        for name, header in (("", {}), (" wrong", {"authorization": "Bearer wrong"})):
            request = urllib.request.Request(service.base + path, headers=header)
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    raise RuntimeError(f"{path}{name} answers {answer.status}")
            except urllib.error.HTTPError as err:
                answers[path + name] = err.code
    if not set(answers.values()) <= {401, 403, 429}:
        raise RuntimeError(f"expected 401 everywhere, got {answers}")
    return {"addresses that refuse": len(refused), "answers": sorted(set(answers.values()))}


def _other_addresses() -> list[str]:
    """Return addresses of this machine beside 127.0.0.1."""
    own = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    return sorted({*own, "127.0.0.2"} - {"127.0.0.1", "::1"})
