"""Deprecated names warn, are listed, and go when their time is over."""

import logging
import re
from importlib import import_module
from pathlib import Path

import pytest

import cstl_edge
from cstl_edge import deprecations
from cstl_edge.deprecations import DEPRECATED, note_deprecated

ROOT = Path(cstl_edge.__file__).parent
TABLES = re.compile(r"^([A-Z_]+) = Registry\(", re.MULTILINE)


def minor(version):
    """0.3.1.dev0 -> (0, 3)"""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


@pytest.mark.parametrize("entry", DEPRECATED.values(), ids=lambda entry: entry.name)
def test_no_deprecated_name_outlives_its_time(entry):
    version = cstl_edge.__version__
    late = f"{entry.name} had to go in {entry.goes}, this is {version}: remove it, its line in "
    assert minor(version) < minor(entry.goes), f"{late}cstl_edge/deprecations.py and its tests"


def test_a_name_whose_time_is_over_would_be_seen():
    assert minor("0.3.0") >= minor("0.3") > minor("0.2.7.dev1")


@pytest.mark.parametrize("entry", DEPRECATED.values(), ids=lambda entry: entry.name)
def test_a_deprecated_name_stays_for_two_minor_versions(entry):
    (major, since), goes = minor(entry.since), minor(entry.goes)
    assert goes >= (major, since + 2)


def test_every_alias_of_a_table_is_listed():
    aliases = []
    for path in ROOT.rglob("*.py"):
        for name in TABLES.findall(path.read_text(encoding="utf-8")):
            module = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
            table = getattr(import_module(module), name)
            aliases += [f"--{table.kind} {alias}" for alias in table.aliases]
    assert aliases
    assert set(aliases) <= set(DEPRECATED)


def test_the_warning_comes_once_and_names_the_other_way(monkeypatch, caplog):
    monkeypatch.setattr(deprecations, "_noted", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            note_deprecated("--schema 1")
        note_deprecated("--schema 2")
    (message,) = caplog.messages
    assert message == "--schema 1 is deprecated since 0.1 and goes in 0.3: use --schema 2"
