"""`cstl-edge reproduce` and `cstl-edge figure` on the command line."""

import json
import sys

import pytest
from typer.testing import CliRunner

from cstl_edge.cli.app import app
from cstl_edge.errors import ConfigError

ROW = ("--row", "max pooling")


def typed(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def options(data, budget, tmp_path):
    return ("--data", data, "--budget", budget, "--folder", tmp_path / "rows")


def test_one_row_is_trained_then_the_other_rows(options, tmp_path):
    out = tmp_path / "tables.jsonl"
    first = typed("reproduce", "table5", *options, *ROW, "--out", out)
    assert "not trained to the end yet: average pooling, ATA" in first.stdout
    typed("reproduce", "table5", *options)
    report = json.loads(typed("reproduce", "table5", *options, "--print", "--json").stdout)
    assert [row["difference"] is None for row in report["rows"]] == [False, False, True]
    saved = json.loads(out.read_text())
    assert saved["rows"][0]["record"] == report["rows"][0]["record"]  # trained once


def test_overrides_hold_for_every_row(options):
    shown = typed("reproduce", "table5", *options, *ROW, "-o", "run.iterations=1", "--json").stdout
    assert json.loads(shown)["rows"][0]["record"]["iterations"] == 1


def test_an_unknown_row_is_an_error_with_the_known_names(options):
    with pytest.raises(ConfigError, match="'max pooling'"):
        typed("reproduce", "table5", *options, "--row", "maximum")


def test_missing_torch_is_an_error_that_names_the_extra(options, monkeypatch):
    monkeypatch.delitem(sys.modules, "cstl_edge.reproduce.report", raising=False)
    monkeypatch.setitem(sys.modules, "cstl_edge.reproduce.rows", None)
    with pytest.raises(ConfigError, match=r"needs torch.*\[train\]"):
        typed("reproduce", "table5", *options)


def test_salient_frames_are_written_as_a_picture(data, tmp_path):
    out = tmp_path / "fig7.png"
    assert str(out) in typed("figure", "salient", "101/cl-01/90", "--data", data, "-o", out).stdout
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_title_is_needed_for_each_model(data, tmp_path):
    with pytest.raises(ConfigError, match="--title for each of 2 models, got 1"):
        typed("figure", "tsne", "a", "b", "--title", "one", "--data", data)
