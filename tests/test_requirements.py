"""Locks of requirements/: every dependency is pinned with hashes, and no index is named."""

import re
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 brings it")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PIN = re.compile(
    r"^([a-z0-9.-]+)==([^ ;]+)(?: ; [^\\]+)? \\\n((?:    --hash=.*\n?)+)", re.MULTILINE
)
UNLOCKED = re.findall(
    r"^[a-z].*$", (ROOT / "requirements" / "unlocked.in").read_text(), re.MULTILINE
)


def canonical(requirement):
    """Pillow>=10.1 -> pillow"""
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def needed(extra):
    """Return the direct dependencies of an extra and of those that it takes in."""
    names = set()
    for requirement in EXTRAS[extra]:
        inner = re.match(r"cstl-edge\[([\w,]+)\]", requirement)
        names |= (
            set().union(*map(needed, inner[1].split(","))) if inner else {canonical(requirement)}
        )
    return names


@pytest.mark.parametrize(("name", "extra"), [("edge", "cv"), ("serve", "serve"), ("dev", "dev")])
def test_every_dependency_is_locked(name, extra):
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    pins = {match[1]: match[3] for match in PIN.finditer(text)}
    wanted = {canonical(r) for r in PROJECT["dependencies"]} | needed(extra)
    assert wanted - set(UNLOCKED) <= set(pins), "run make lock"
    assert all("--hash=sha256:" in hashes for hashes in pins.values())
    assert len(re.findall(r"^[a-z].*==", text, re.MULTILINE)) == len(PIN.findall(text))
    assert "://" not in text
    assert "--find-links" not in text


def test_tested_pythons_are_those_of_the_continuous_integration():
    from cstl_edge.doctor import TESTED_PYTHONS

    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    edge = re.search(r"^for wanted in ([\d. ]+);", script, re.MULTILINE)[1].split()
    assert set(TESTED_PYTHONS) == {*edge, "3.11"}
    for version in TESTED_PYTHONS:
        assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]
    assert PROJECT["requires-python"] == ">=3.10"


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_extra_is_documented(extra):
    assert f"`{extra}`" in (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
