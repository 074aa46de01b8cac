"""Training loop: learning, bit-equal resume, stop at a loss that is not finite, log."""

import os
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from standin_people import Bars

from cstl_edge.checkpoint.weights import load_checkpoint, weights_sha256
from cstl_edge.errors import ConfigError, ModelError
from cstl_edge.training import command, recorder, trainer
from cstl_edge.training.distributed import Ranks
from cstl_edge.training.run_state import RESUME, WEIGHTS, MovingAverage, start_run
from cstl_edge.training.settings import OptimiserSettings, TrainConfig
from cstl_edge.training.trainer import learning_rate, train

from .conftest import config, log, tensor_bytes

TRAIN = Path(__file__).parents[2] / "train"
SCRIPT, CONFIGS = TRAIN / "run_train.py", TRAIN / "configs"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a whole run; whoever changes it takes a copy."""
    folder = tmp_path_factory.mktemp("finished")
    train(config(), Bars(), folder)
    return folder


def test_training_separates_the_people(tmp_path):
    settings = config("run.iterations=80", "run.log_every=1", "optimiser.rate=0.01")
    train(settings, Bars(), tmp_path)
    lines = log(tmp_path)
    assert lines[0]["cross_entropy"] == pytest.approx(np.log(8), abs=1e-4)  # of a zero class matrix
    for key in ("loss", "cross_entropy"):
        losses = [line[key] for line in lines]
        assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5]), key
    assert np.mean([line["class_accuracy"] for line in lines[-10:]]) > 0.4  # chance is 0.125
    network, _ = load_checkpoint(tmp_path / WEIGHTS)
    silhouettes = torch.from_numpy(np.stack([Bars().read(i)[:6] for i in range(32)]))
    with torch.inference_mode():
        x = network(silhouettes)[0].flatten(1)
    distance = torch.cdist(x, x).fill_diagonal_(torch.inf)
    nearest = Bars().people[distance.argmin(1).numpy()]
    assert (nearest == Bars().people).mean() > 0.9


def test_training_from_weights_keeps_frozen_layers(tmp_path, finished):
    first = finished / WEIGHTS
    frozen = config("optimiser.frozen_layers=2", "run.iterations=4")
    second = train(frozen, Bars(), tmp_path / "second", initial_weights=first)
    (before, _), (after, training) = load_checkpoint(first), load_checkpoint(second)
    convs = zip(before.backbone.convs, after.backbone.convs, strict=True)
    assert [torch.equal(a.weight, b.weight) for a, b in convs] == [True, True, False, False]
    assert training["first"]["weights_sha256"] == weights_sha256(first)
    assert training["first"]["training"]["iterations"] == 8
    longer = config("optimiser.frozen_layers=2", "run.iterations=6")
    resumed = train(longer, Bars(), tmp_path / "second", resume=True)
    assert load_checkpoint(resumed)[1]["first"] == training["first"]


def test_frozen_layers_require_weights_of_the_same_network(tmp_path, finished):
    with pytest.raises(ConfigError, match="frozen_layers"):
        train(config("optimiser.frozen_layers=1"), Bars(), tmp_path / "a")
    first = finished / WEIGHTS
    with pytest.raises(ConfigError, match="expected weights of the network"):
        train(config("model.parts=8"), Bars(), tmp_path / "b", initial_weights=first)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["optimiser.average_decay=0.9", "augment={stride: 1.5, shift_px: 1, erase: 0.5}"],
        ["run.precision=bfloat16", "run.channels_last=true", "optimiser.schedule=cosine"],
    ],
    ids=["plain", "average and augmentation", "bfloat16 and cosine"],
)
def test_resumed_run_ends_bit_equal(tmp_path, options):
    settings = config(*options)
    through = train(settings, Bars(), tmp_path / "through")
    stops = iter([False] * 5 + [True] * 99)
    train(settings, Bars(), tmp_path / "halves", stop_requested=lambda: next(stops))
    assert log(tmp_path / "halves")[-1]["iteration"] == 4
    halves = train(settings, Bars(), tmp_path / "halves", resume=True)
    assert tensor_bytes(through) == tensor_bytes(halves)
    one, two = (tensor_bytes(tmp_path / name / RESUME) for name in ("through", "halves"))
    assert one == two
    assert len(one) > 40


def test_weights_load_and_record_their_origin(tmp_path):
    settings = config("optimiser.average_decay=0.9")
    path = train(settings, Bars(), tmp_path, provenance={"command": "bars"})
    network, training = load_checkpoint(path)
    assert network.config.classes == 0
    assert [training[key] for key in ("command", "iterations", "people")] == ["bars", 8, 8]
    assert TrainConfig.model_validate(training["configuration"]) == settings


def test_log_holds_one_line_per_interval(finished):
    lines = log(finished)
    assert [line["iteration"] for line in lines] == [1, 2, 4, 6, 8]
    for line in lines:
        assert line["loss"] == pytest.approx(line["triplet"] + line["cross_entropy"], abs=1e-4)
        assert 0 <= line["nonzero"] <= 1
        assert line["iteration_ms"] > 0
    assert lines[-1]["left_s"] == 0


def test_log_holds_the_gradients_that_the_losses_send_into_the_trunk(tmp_path):
    settings = config("optimiser.embedding_class_weight=0.5", "run.log_every=1")
    train(settings, Bars(), tmp_path)
    lines = log(tmp_path)
    assert lines[0]["gradient_triplet"] > 0
    assert all(-1 <= line["gradient_cosine"] <= 1 for line in lines)
    assert lines[0]["gradient_class"] > 0  # of the embedding: the matrix of Eq. 7 is still zero
    only_scores = config("run.log_every=1")
    train(only_scores, Bars(), tmp_path / "scores")
    at_first, *later = [line["gradient_class"] for line in log(tmp_path / "scores")]
    assert at_first == 0
    assert later[0] > 0


def test_gradients_are_those_of_autograd():
    features = torch.rand(2, 3, 2, 4, requires_grad=True)
    pull = torch.rand(2, 3, 2, 4)
    triplet, classes = (features * pull).sum(), (-3 * features * pull).sum() + features.sum() * 0
    actual = trainer.gradients_at(features, triplet, classes, Ranks())
    norm = float(pull.norm())
    expected = {"triplet": norm, "class": 3 * norm, "cosine": -1.0}
    assert actual == {f"gradient_{k}": pytest.approx(x, rel=1e-5) for k, x in expected.items()}
    assert trainer.gradients_at(features.detach(), triplet, classes, Ranks()) == {}


def test_class_loss_on_the_embedding_learns(tmp_path):
    settings = config(
        "run.iterations=60", "run.log_every=1", "optimiser.rate=0.01", "optimiser.class_weight=0",
        "optimiser.embedding_class_weight=0.1", "optimiser.class_smoothing=0.1",
    )  # fmt: skip
    path = train(settings, Bars(), tmp_path)
    lines = log(tmp_path)
    assert {line["cross_entropy"] for line in lines} == {None}
    falling = [line["embedding_cross_entropy"] for line in lines]
    assert np.mean(falling[-5:]) < 0.8 * np.mean(falling[:5])
    accuracy = np.mean([line["embedding_class_accuracy"] for line in lines[-5:]])
    assert accuracy > 0.3
    total = 0.1 * lines[-1]["embedding_cross_entropy"] + lines[-1]["triplet"]
    assert lines[-1]["loss"] == pytest.approx(total, abs=1e-4)
    record = load_checkpoint(path)[1]["last"]
    assert record["embedding_class_accuracy"] == lines[-1]["embedding_class_accuracy"]


def test_cosine_over_a_fixed_number_of_iterations_is_carried_through_stops(tmp_path):
    cosine = ("optimiser.schedule=cosine", "optimiser.cosine_iterations=10", "run.log_every=1")
    train(config(*cosine, "run.iterations=4"), Bars(), tmp_path)
    train(config(*cosine, "run.iterations=8"), Bars(), tmp_path, resume=True)
    train(config(*cosine), Bars(), tmp_path / "through")
    one, two = ([line["rate"] for line in log(tmp_path / x)] for x in (".", "through"))
    assert one == two
    settings = OptimiserSettings(rate=0.1, schedule="cosine", cosine_iterations=10)
    assert learning_rate(settings, 5, 0.99) == pytest.approx(0.1 * (0.01 + 0.99 * 0.5))
    longer = config(*cosine[::2], "optimiser.cosine_iterations=12")
    with pytest.raises(ConfigError, match=r"optimiser\.cosine_iterations was 10 .* is 12 now"):
        train(longer, Bars(), tmp_path, resume=True)


def test_budget_of_minutes_ends_the_run(tmp_path):
    settings = config("run.iterations=null", "run.minutes=0.005", "run.log_every=1")
    train(settings, Bars(), tmp_path)
    lines = log(tmp_path)
    assert lines[-1]["elapsed_s"] >= 0.3
    assert lines[-2]["elapsed_s"] < 0.31


def test_nan_loss_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    train(config("run.iterations=3"), Bars(), tmp_path)
    good = (tmp_path / RESUME).read_bytes()
    monkeypatch.setattr(trainer, "cross_entropy", lambda logits, *_: logits.sum() * torch.nan)
    with pytest.raises(ModelError, match=rf"nan at batch 3 \(sequences \[\d+.*{RESUME}"):
        train(config(), Bars(), tmp_path, resume=True)
    assert (tmp_path / RESUME).read_bytes() == good
    monkeypatch.undo()
    train(config(), Bars(), tmp_path, resume=True)
    assert log(tmp_path)[-1]["iteration"] == 8


def test_nonfinite_weights_never_replace_a_good_checkpoint(tmp_path):
    train(config("run.iterations=2"), Bars(), tmp_path)
    good = (tmp_path / RESUME).read_bytes()
    run = start_run(config(), Bars())
    with torch.no_grad():
        run.model.embed.weight[0] = torch.nan
    with pytest.raises(ModelError, match=r"embed\.weight holds NaN"):
        recorder.write_checkpoint(tmp_path, run)
    assert (tmp_path / RESUME).read_bytes() == good


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimiser.rate=0.01", r"optimiser\.rate was 0\.003 .* is 0\.01 now"),
        ("model={widths: [2, 4, 8, 16], parts: 4, embedding: 16}", "model"),
    ],
)
def test_resume_with_another_configuration_is_refused(finished, change, message):
    with pytest.raises(ConfigError, match=message):
        train(config(change), Bars(), finished, resume=True)


def test_resume_may_change_the_budget(tmp_path):
    train(config("run.iterations=3"), Bars(), tmp_path)
    train(config("run.iterations=5"), Bars(), tmp_path, resume=True)
    assert log(tmp_path)[-1]["iteration"] == 4  # the last even one


def test_truncated_file_and_weights_are_no_resume_file(tmp_path, finished):
    folder = shutil.copytree(finished, tmp_path / "run")
    for keep in (5000, 100, 0):
        os.truncate(folder / RESUME, keep)
        with pytest.raises(ModelError, match="resume"):
            train(config(), Bars(), folder, resume=True)
    (folder / WEIGHTS).replace(folder / RESUME)
    with pytest.raises(ModelError, match="not a checkpoint of this run"):
        train(config(), Bars(), folder, resume=True)


def test_learning_rate_warms_up_and_falls():
    cosine = OptimiserSettings(rate=1.0, schedule="cosine", warm_up=10, final_rate=0.1)
    assert learning_rate(cosine, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(cosine, 9, 0.0) == pytest.approx(1.0)
    assert learning_rate(cosine, 50, 0.5) == pytest.approx(0.55)
    assert learning_rate(cosine, 99, 1.0) == learning_rate(cosine, 99, 1.2) == pytest.approx(0.1)
    steps = OptimiserSettings(rate=1.0, schedule="step", steps=(5, 8))
    assert [learning_rate(steps, i, 0.0) for i in (4, 5, 8)] == pytest.approx([1.0, 0.1, 0.01])
    constant = OptimiserSettings(rate=1e-4)
    assert learning_rate(constant, 0, 0.0) == learning_rate(constant, 9, 0.9) == 1e-4


def test_moving_average_covers_every_tensor_element():
    run = start_run(config(), Bars())
    average = MovingAverage(run.model, 0.5)
    start = run.model.embed.weight.detach().clone()
    with torch.no_grad():
        run.model.embed.weight.add_(1.0)
    average.update(run.model, iteration=1000)
    torch.testing.assert_close(average.state["embed.weight"], start + 0.5)
    average.update(run.model, iteration=0)  # a tenth of the past at the beginning
    torch.testing.assert_close(average.state["embed.weight"], start + 0.95)


SMALL = """
model: {widths: [2, 4, 8, 8], parts: 4, embedding: 16}
walkers: {people: 4, nm: 1, bg: 0, cl: 0, views_deg: [0, 90], frames: 6}
sampler: {people: 2, sequences: 2, frames: 4}
run: {iterations: 100000, threads: 1, checkpoint_minutes: 0.001}
"""


def arguments(folder, *more):
    config = folder / "small.yaml"
    config.write_text(SMALL, encoding="utf-8")
    places = {"--folder": folder / "run", "--cache": folder / "cache"}
    options = [str(word) for pair in places.items() for word in pair]
    return [str(config), *options, "--workers", "1", *more]


def exit_code(monkeypatch, *words):
    """Run the script in this process."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return end.value.code


@pytest.mark.slow
def test_run_train_renders_data_trains_and_resumes_after_kill_9(tmp_path, monkeypatch, in_child):
    resume = tmp_path / "run" / RESUME
    pid = in_child(lambda: exit_code(monkeypatch, *arguments(tmp_path)))
    deadline, ended = time.monotonic() + 60, 0
    while not (resume.exists() or ended) and time.monotonic() < deadline:
        time.sleep(0.02)
        ended, _ = os.waitpid(pid, os.WNOHANG)
    assert not ended
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert resume.exists()
    monkeypatch.setattr(command, "prepare_process", lambda settings: None)
    again = arguments(tmp_path, "-o", "run.iterations=1", "--resume")
    assert exit_code(monkeypatch, *again) == 0
    _, training = load_checkpoint(tmp_path / "run" / WEIGHTS)
    assert training["people"] == 4
    assert training["iterations"] >= 1
    assert "cstl-edge train" in training["command"]


def test_folder_with_a_run_is_not_overwritten(tmp_path, capsys, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / RESUME).touch()
    assert exit_code(monkeypatch, *arguments(tmp_path)) == 2
    assert "Give --resume" in capsys.readouterr().err


def test_run_without_data_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "prepare_process", lambda settings: None)
    assert exit_code(monkeypatch, *arguments(tmp_path, "-o", "walkers=null")) == 2
    assert "give --data FOLDER" in capsys.readouterr().err
    assert exit_code(monkeypatch, *arguments(tmp_path, "--data", str(tmp_path))) == 3
    assert "or shards in" in capsys.readouterr().err
