"""The page's application on a stand-in of the front process, and clients with their logins."""

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("httpx", reason="the test client of starlette needs httpx")
pytest.importorskip("argon2", reason="the extra serve is not installed")

from standin_front import StandinFront
from starlette.testclient import TestClient

from cstl_edge.serve.web.app import create_app
from cstl_edge.serve.web.door import login_url

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


@pytest.fixture
def page(tmp_path):
    return Page(tmp_path / "data")


@pytest.fixture
def make_page(tmp_path):
    return lambda **groups: Page(tmp_path / "data", **groups)
