"""The documents name files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_modules_of_the_architecture_page_exist():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "cstl_edge"
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_.]+|[a-z_]+\.py)", text))
    places = [package, ROOT, *package.rglob("*/")]
    missing = [name for name in named if not any((place / name).exists() for place in places)]
    assert not missing


def test_objects_of_the_tables_exist():
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    for path, name in re.findall(r"`([a-z_/]+\.py): ([A-Z_]+)`", text):
        source = (ROOT / "cstl_edge" / path).read_text(encoding="utf-8")
        assert re.search(rf"^{name}\b.* = Registry\(", source, re.MULTILINE), f"{path}: {name}"
