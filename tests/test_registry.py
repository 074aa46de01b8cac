"""Registry of implementations: names, aliases, entry points of other packages, refusals."""

from importlib.metadata import EntryPoint

import pytest

from cstl_edge.errors import BackendUnavailable, ConfigError
from cstl_edge.registry import Entry, Registry


def table(**options):
    return Registry(
        "shape", {"root": Entry("math:sqrt", "of 2"), "log": Entry("math:log")}, **options
    )


def test_an_entry_is_imported_by_name_and_by_alias():
    shapes = table(aliases={"radix": "root"})
    assert shapes.load("root")(4.0) == shapes.load("radix")(4.0) == 2.0
    assert list(shapes) == ["root", "log"]
    assert "radix" in shapes
    assert "cube" not in shapes


def test_an_unknown_name_is_refused_with_a_guess():
    with pytest.raises(ConfigError, match="expected a shape of root, log; got 'rot'; did you mean"):
        table().load("rot")


def test_another_package_adds_its_own_but_replaces_none(monkeypatch):
    points = [EntryPoint("root", "os:getpid", "g"), EntryPoint("exp", "math:exp", "g")]
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: points if group == "g" else []
    )
    shapes = table(group="g")
    assert list(shapes) == ["root", "log", "exp"]
    assert shapes.help() == "root (of 2), log"  # quick: of other packages only errors speak
    assert shapes.load("exp")(0.0) == 1.0
    assert shapes.load("root")(9.0) == 3.0


def test_a_broken_entry_point_is_a_one_line_error(monkeypatch):
    broken = [EntryPoint("bad", "no_such_module:f", "g")]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: broken)
    with pytest.raises(BackendUnavailable, match="shape bad of another package"):
        table(group="g").load("bad")
