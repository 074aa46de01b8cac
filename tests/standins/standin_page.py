"""The page's application on the stand-in front: clients in the process, or uvicorn on a port."""

import asyncio
import socket
import threading
import time

from standin_front import StandinFront
from starlette.testclient import TestClient

from cstl_edge.serve.web.app import create_app
from cstl_edge.serve.web.door import login_url

LONG_S = 30  # a loaded machine may be slow; nothing waits this long else
BASE = "http://127.0.0.1:8765"


class Page:
    """An application, its context, and clients as browsers and programs are."""

    def __init__(self, folder, **groups):
        self.front = StandinFront(folder, **groups)
        self.app = create_app(self.front, metrics=lambda: (b"up 1\n", "text/plain"))

    @property
    def token(self):
        login_url(self.front.site)  # makes it
        return (self.front.site.data / "token").read_text().strip()

    def client(self, base=BASE, address="127.0.0.1"):
        return TestClient(self.app, base_url=base, client=(address, 50000), follow_redirects=False)

    def program(self, **options):
        """A program with the token."""
        client = self.client(**options)
        client.headers["authorization"] = f"Bearer {self.token}"
        return client

    def browser(self, base=BASE, **options):
        """A browser that has followed the printed address: cookie and proof."""
        client = self.client(base, **options)
        answer = client.get(f"/?token={self.token}")
        assert answer.status_code == 200, answer.text
        proof = answer.text.split('name="proof" content="')[1].split('"')[0]
        own = {"x-csrf-token": proof, "origin": base, "sec-fetch-site": "same-origin"}
        client.headers.update(own)
        return client


def until(condition):
    """Wait for something that another thread does."""
    end = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Running:
    """The application under uvicorn on a free port, in a thread."""

    def __init__(self, page):
        from cstl_edge.serve.web.server import make_server, open_socket

        self.page = page
        self.listener = open_socket(page.front.site.page)
        self.port = self.listener.getsockname()[1]
        self.server = make_server(page.app, page.front.site.page)
        self.loop = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        async def serve():
            self.loop = asyncio.get_running_loop()
            await self.server.serve(sockets=[self.listener])

        asyncio.run(serve())

    def __enter__(self):
        self.thread.start()
        until(lambda: self.server.started)
        return self

    def __exit__(self, *exc):
        self.page.front.stopping = self.server.should_exit = True
        self.thread.join(LONG_S)
        assert not self.thread.is_alive()

    def show(self, jpeg, number):
        self.loop.call_soon_threadsafe(self.page.front.show, "door", jpeg, "boxes", number)

    def connect(self, path):
        client = socket.create_connection(("127.0.0.1", self.port), timeout=LONG_S)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
        client.sendall(f"{request}Authorization: Bearer {self.page.token}\r\n\r\n".encode())
        return client
