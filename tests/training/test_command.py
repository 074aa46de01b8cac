"""Command `train`: configuration by name, people of a dataset, folder, exit codes."""

import json
import re
import sys
import types

import numpy as np
import pytest
import yaml
from shard_files import write_shard
from standin_people import LabelledBars
from typer.testing import CliRunner

from cstl_edge.checkpoint.weights import load_checkpoint
from cstl_edge.cli.app import app
from cstl_edge.errors import ConfigError, DataError
from cstl_edge.evaluation.embed import pad
from cstl_edge.training import command
from cstl_edge.training.command import training_people, validation_people
from cstl_edge.training.run_state import BEST, RESUME, WEIGHTS
from cstl_edge.training.settings import DataSettings, EvaluateSettings

TINY = {
    "model": {"widths": [2, 4, 8, 8], "parts": 4, "embedding": 16},
    "sampler": {"people": 2, "sequences": 2, "frames": 4},
    "run": {"iterations": 3, "log_every": 1},
}


class Numbered:
    """One sequence of each person of CASIA-B or OU-MVLP; nothing is read."""

    def __init__(self, ids):
        self.people = np.array(ids)
        self.lengths = np.full(len(ids), 30)
        self.views_deg, self.sequences = np.zeros(len(ids), int), np.full(len(ids), "nm-01")


CASIA_B, OU_MVLP = Numbered(range(1, 125)), Numbered(range(1, 10308))


@pytest.fixture(autouse=True)
def small_process(monkeypatch):
    """Nothing that is global to the process of the tests."""
    monkeypatch.setattr(command, "prepare_process", lambda settings: None)


@pytest.fixture
def shards(tmp_path):
    """People 70, 72, 74 and 76 in CASIA-B's recordings, as a shard."""
    bars = LabelledBars()
    block, lengths = pad([bars.read(i) for i in range(80)], (64, 44))
    labels = {"people": 70 + 2 * (bars.people - 100), "sequences": bars.sequences}
    labels |= {"views_deg": bars.views_deg, "lengths": lengths}
    write_shard(tmp_path / "data" / "people", block, **labels)
    return tmp_path / "data"


@pytest.fixture
def cli(tmp_path, shards):
    """Call `cstl-edge train` on the tiny configuration."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    places = ["--data", str(shards), "--folder", str(tmp_path / "run")]

    def call(*more):
        return CliRunner().invoke(app, ["train", str(tmp_path / "tiny.yaml"), *places, *more])

    return call


def prepared(monkeypatch, kind):
    monkeypatch.setattr(command, "is_dataset", lambda folder: True)
    monkeypatch.setattr(command, "read_index", lambda folder: types.SimpleNamespace(kind=kind))


def ids(data):
    return np.unique(data.people).tolist()


def test_default_split_is_that_of_the_field():
    assert ids(training_people(CASIA_B, "casia-b", DataSettings())) == list(range(1, 75))
    assert ids(training_people(OU_MVLP, "ou-mvlp", DataSettings())) == list(range(1, 10306, 2))
    assert training_people(CASIA_B, "gait3d", DataSettings()) is CASIA_B


def test_split_first_5153_all_and_people_left_out():
    paper = training_people(OU_MVLP, "ou-mvlp", DataSettings(split="first-5153"))
    assert ids(paper) == list(range(1, 5154))
    assert training_people(CASIA_B, "casia-b", DataSettings(split="all")) is CASIA_B
    released = training_people(CASIA_B, "casia-b", DataSettings(without=(5,)))
    assert ids(released) == [*range(1, 5), *range(6, 75)]
    with pytest.raises(ConfigError, match="got 'first-5153'"):
        training_people(CASIA_B, "casia-b", DataSettings(split="first-5153"))
    with pytest.raises(ConfigError, match="got 'shards'"):
        training_people(CASIA_B, "shards", DataSettings(split="field"))


def test_training_and_validation_people_are_disjoint():
    field, few, all_of_them = DataSettings(), {"every": 1, "people": 10}, EvaluateSettings(every=1)
    ten = validation_people(CASIA_B, "casia-b", field, EvaluateSettings(**few))
    assert ids(ten) == list(range(75, 85))
    everybody = validation_people(OU_MVLP, "ou-mvlp", field, all_of_them)
    assert not set(ids(everybody)) & set(ids(training_people(OU_MVLP, "ou-mvlp", DataSettings())))
    with pytest.raises(ConfigError, match=r"evaluate needs evaluate\.walkers"):
        validation_people(CASIA_B, "casia-b", DataSettings(split="all"), all_of_them)
    with pytest.raises(DataError, match=r"at least 2 people to evaluate on.*have 1"):
        validation_people(Numbered(range(1, 76)), "casia-b", field, all_of_them)


def test_train_prints_the_weights_path_and_writes_the_configuration(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cstl-edge", "train", "tiny.yaml"])
    done = cli("-o", "run.iterations=2", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"weights": str(tmp_path / "run" / WEIGHTS), "stopped": False}
    _, training = load_checkpoint(tmp_path / "run" / WEIGHTS)
    assert (training["people"], training["iterations"]) == (4, 2)
    assert training["command"] == "cstl-edge train tiny.yaml"
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert written["run"]["iterations"] == 2
    assert written["sampler"]["rule"] == "paper"  # the defaults are written out


def test_folder_with_a_run_requires_resume(cli, tmp_path):
    assert cli("-o", "run.iterations=2").exit_code == 0
    again = cli()
    assert isinstance(again.exception, ConfigError)
    assert "Give --resume" in str(again.exception)
    assert cli("--resume").exit_code == 0
    assert load_checkpoint(tmp_path / "run" / WEIGHTS)[1]["iterations"] == 3


def test_prepared_dataset_is_split_and_validated_on_its_test_people(cli, tmp_path, monkeypatch):
    prepared(monkeypatch, "casia-b")
    monkeypatch.setattr(  # of four people two are left to test
        "cstl_edge.data.splits.SPLITS", {"casia-b": {"field": lambda ids: ids <= 72}}
    )
    done = cli("-o", "evaluate.every=3")
    assert done.exit_code == 0, done.output
    assert load_checkpoint(tmp_path / "run" / WEIGHTS)[1]["people"] == 2
    best = load_checkpoint(tmp_path / "run" / BEST)[1]["evaluation"]
    assert best["protocol"] == "casia-b"
    assert 0 <= best["rank1"] <= 1


def test_too_few_people_of_a_split_are_refused(cli, monkeypatch):
    prepared(monkeypatch, "casia-b")  # 70, 72 and 74 are trained on
    done = cli("-o", "sampler.people=4")
    assert isinstance(done.exception, ConfigError)
    assert re.search("at least 4 people.*got 3", str(done.exception))


def test_minutes_option_replaces_iterations(cli, tmp_path):
    assert cli("--minutes", "0.001", "--split", "all").exit_code == 0
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (written["run"]["minutes"], written["run"]["iterations"]) == (0.001, None)
    assert written["data"]["split"] == "all"


def test_signal_ends_the_run_with_a_checkpoint_and_exit_code_130(cli, tmp_path, monkeypatch):
    def stop(self):
        self._request(2, None)
        return self.requested

    monkeypatch.setattr(command.StopSignals, "__call__", stop)
    done = cli()
    assert done.exit_code == 130
    assert (tmp_path / "run" / RESUME).exists()
    assert load_checkpoint(tmp_path / "run" / WEIGHTS)[1]["iterations"] == 0


def test_unknown_preset_and_unwritable_folder_are_config_errors(cli, tmp_path):
    unknown = CliRunner().invoke(app, ["train", "cstl-casia-c"])
    assert isinstance(unknown.exception, ConfigError)
    assert "cstl-casia-b" in str(unknown.exception)
    (tmp_path / "run").write_text("a file")
    assert "cannot write" in str(cli().exception)
