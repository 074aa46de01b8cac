"""Table of dataset layouts: a new layout is one more line of it."""

import json
import sys

import pytest
from drawn_people import draw, save
from typer.testing import CliRunner

from cstl_edge.cli.data import data
from cstl_edge.data.importing.layouts.open import LAYOUTS
from cstl_edge.data.importing.settings import PrepareSettings
from cstl_edge.errors import ConfigError
from cstl_edge.registry import Entry

LAYOUT = """
from pathlib import Path
from cstl_edge.data.importing.layouts.base import Layout

def list_recordings(tree, start):
    for folder in tree.matching(start, lambda name: name.startswith("walker_")):
        person, view = folder.removeprefix("walker_").split("_")
        tree.add(person, "walk", int(view), folder)

WALKERS_BY_VIEW = Layout("walkers by view", "walker_ada_090/*.png", list_recordings)
"""


def prepare(*words):
    return CliRunner().invoke(data, ["prepare", *map(str, words), "--workers", "1", "--json"])


def test_a_layout_from_a_file_of_its_own_is_prepared(tmp_path, monkeypatch):
    (tmp_path / "layout_of_a_test.py").write_text(LAYOUT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(LAYOUTS.entries, "by-view", Entry("layout_of_a_test:WALKERS_BY_VIEW"))
    for folder in ("walker_ada_000", "walker_ada_090", "walker_ben_090"):
        for i in range(4):
            save(draw(i), tmp_path / "source" / folder / f"{i}.png")
    out = tmp_path / "out"
    result = prepare(tmp_path / "source", "--dataset", "by-view", "--out", out)
    monkeypatch.delitem(sys.modules, "layout_of_a_test")
    assert result.exit_code == 0, result.output
    index = json.loads(result.stdout)
    assert (index["kind"], index["people"]) == ("by-view", {"0": "ada", "1": "ben"})
    assert (index["sequences"], index["frames"]) == (3, 12)
    stats = json.loads(CliRunner().invoke(data, ["stats", str(out), "--json"]).stdout)
    assert stats["views_deg"] == {"0": 1, "90": 2}


def test_an_unknown_layout_is_refused_with_the_known_names(tmp_path):
    result = prepare(tmp_path, "--dataset", "casiab", "--out", tmp_path / "out")
    assert isinstance(result.exception, ConfigError)
    assert result.exception.exit_code == 2
    assert "casia-b, ou-mvlp" in str(result.exception)
    assert "did you mean casia-b?" in str(result.exception)
    with pytest.raises(ValueError, match="expected a dataset layout of casia-b"):
        PrepareSettings(dataset="casiab")


def test_help_lists_the_layouts():
    help_text = CliRunner().invoke(data, ["prepare", "--help"], env={"COLUMNS": "200"}).stdout
    assert "|".join(LAYOUTS) in help_text
