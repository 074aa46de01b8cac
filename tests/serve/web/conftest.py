"""The page's application on a stand-in of the front process, and clients with their logins."""

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("httpx", reason="the test client of starlette needs httpx")
pytest.importorskip("argon2", reason="the extra serve is not installed")

from standin_page import Page, Running, free_port


@pytest.fixture
def page(tmp_path):
    return Page(tmp_path / "data")


@pytest.fixture
def make_page(tmp_path):
    return lambda **groups: Page(tmp_path / "data", **groups)


@pytest.fixture
def running(make_page):
    with Running(make_page(page={"port": free_port()})) as server:
        yield server
