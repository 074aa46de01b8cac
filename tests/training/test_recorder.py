"""Run log: lines, progress bar with the time left, TensorBoard."""

import logging
import re
import sys
import types

import pytest

from cstl_edge.errors import ConfigError
from cstl_edge.training import recorder as module
from cstl_edge.training.losses import Losses
from cstl_edge.training.recorder import GradientBalance, RunLog

from .conftest import log as lines

RECORD = {
    **{"iteration": 40, "loss": 1.25, "triplet": 0.25, "cross_entropy": None, "nonzero": 0.5},
    **{"rate": 1e-4, "iteration_ms": 812.4, "elapsed_s": 100.0, "left_s": 3725.0},
}
VALIDATION = {"iteration": 40, "rank1": 0.625, "rank1_95": [0.5, 0.7], "protocol": "casia-b"}


@pytest.fixture
def terminal(monkeypatch):
    """A standard error that is a terminal, and what is written to it."""
    from rich.console import Console

    console = Console(force_terminal=True, width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    yield console
    console.file.close()


def test_log_lines_hold_the_record_and_the_time_left(tmp_path, caplog):
    with caplog.at_level(logging.INFO), RunLog(tmp_path) as log:
        log.iteration(RECORD, 0.1)
        log.validation(VALIDATION)
    assert lines(tmp_path) == [RECORD, VALIDATION]
    assert "iteration 40: loss 1.2500" in caplog.messages[0]
    assert "812 ms, 1 h 02 min left" in caplog.messages[0]
    assert caplog.messages[1] == "iteration 40: rank-1 62.5% (casia-b)"


def test_terminal_shows_a_progress_bar_in_place_of_lines(tmp_path, caplog, terminal):
    with caplog.at_level(logging.INFO), RunLog(tmp_path) as log:
        log.iteration(RECORD, 0.1)
        assert log._bar.tasks[0].completed == 0.1
        log.validation(VALIDATION)
    assert not caplog.messages
    text = terminal.export_text()
    assert "loss 1.2500" in text
    assert "10%" in text
    assert "rank-1 62.5%" in text
    assert lines(tmp_path) == [RECORD, VALIDATION]


def losses(triplet, classes):
    return Losses(1.0, 0.5, 0.5, gradient_triplet=triplet, gradient_class=classes)


@pytest.mark.parametrize(
    ("norms", "warning"),
    [
        ((1.0, 3.0), r"the class loss sends 3\.0 times the gradient of the triplet loss"),
        ((3.0, 1.0), r"the triplet loss sends 3\.0 times .* optimiser\.class_weight"),
        ((1.0, 2.0), None),
        ((None, None), None),
    ],
)
def test_one_warning_when_a_gradient_is_beyond_twice_the_other(norms, warning):
    balance = GradientBalance(logged=4)
    texts = [balance.add(losses(*norms)) for _ in range(12)]
    assert texts[:3] == [None] * 3  # not before there are enough records
    if warning is None:
        assert not any(texts)
    else:
        assert re.search(warning, texts[3])
        assert texts[4:] == [None] * 8


def test_disabled_log_writes_nothing(tmp_path, caplog):
    silent = RunLog(tmp_path, enabled=False, tensorboard=True)
    with caplog.at_level(logging.INFO), silent as log:
        log.iteration(RECORD, 0.1)
        log.validation(VALIDATION)
    assert not caplog.messages
    assert not list(tmp_path.iterdir())


def test_missing_tensorboard_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install .*\[track\]"):
        RunLog(tmp_path, tensorboard=True)


def test_tensorboard_gets_every_finite_number(tmp_path, monkeypatch):
    class Writer:
        def __init__(self, folder):
            self.folder, self.closed, self.scalars = folder, False, []
            writers.append(self)

        def add_scalar(self, name, value, iteration):
            self.scalars.append((name, value, iteration))

        def close(self):
            self.closed = True

    writers = []
    standin = types.SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", standin)
    with RunLog(tmp_path, tensorboard=True) as log:
        log.iteration(RECORD, 0.1)
        log.validation(VALIDATION)
    (writer,) = writers
    assert writer.closed
    assert writer.folder == str(tmp_path / module.TENSORBOARD)
    assert ("loss", 1.25, 40) in writer.scalars
    assert ("evaluation/rank1", 0.625, 40) in writer.scalars
    assert not [name for name, *_ in writer.scalars if "cross_entropy" in name]
