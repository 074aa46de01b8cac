"""The table of scenarios, and one that is added by a file and a line."""

import pytest
from standin_bench import GOLDEN
from typer.testing import CliRunner

from cstl_edge.bench.record import read_rows
from cstl_edge.bench.scenarios.open import SCENARIOS
from cstl_edge.cli.app import app
from cstl_edge.registry import Entry

SOURCE = """
def rows(context):
    yield context.row("mine", "own backend", values={"answers": 42.0})
"""


@pytest.mark.parametrize("name", [*SCENARIOS])
def test_every_scenario_of_the_table_is_there(name):
    assert callable(SCENARIOS.load(name))


def test_a_scenario_is_added_by_a_file_and_a_line(tmp_path, monkeypatch):
    (tmp_path / "own_scenario.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SCENARIOS.entries, "mine", Entry("own_scenario:rows"))
    out = tmp_path / "rows.jsonl"
    words = ["bench", "--scenario", "mine", "--model", str(GOLDEN / "tiny"), "--out", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "answers 42" in done.stdout
    (row,) = read_rows(out)
    assert (row.scenario, row.contender, row.values) == ("mine", "own backend", {"answers": 42.0})
    refused = CliRunner().invoke(app, ["bench", "--scenario", "theirs"])
    assert str(refused.exception).endswith("power, mine; got 'theirs'")
