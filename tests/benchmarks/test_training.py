"""Multiply-adds and times of a training iteration."""

import doctest
from pathlib import Path

import pytest


@pytest.fixture
def step():
    pytest.importorskip("torch", reason="needs torch")
    from training import Noise

    from cstl_edge.config import load_config
    from cstl_edge.training.presets import find_preset
    from cstl_edge.training.run_state import start_run
    from cstl_edge.training.settings import TrainConfig
    from cstl_edge.training.trainer import TrainingStep

    changes = ["model.widths=[2, 2, 4, 4]", "model.parts=4", "model.embedding=4"]
    changes += ["sampler.people=2", "sampler.sequences=2", "sampler.frames=3"]
    changes += ["optimiser.frozen_layers=0", "run.precision=float32", "run.channels_last=false"]
    config = load_config(TrainConfig, find_preset("cstl-walkers"), changes)
    return TrainingStep(start_run(config, Noise(2, 2, 3, (64, 44))), Path())


def test_multiply_adds_count_the_trunk_three_times(step):
    from training import multiply_adds

    pixels, quarter, frames = 64 * 44, 32 * 22, 2 * 2 * 3
    forward = 9 * (pixels * (1 * 2 + 2 * 2) + quarter * (2 * 4 + 4 * 4)) * frames / 1e9
    first = 9 * pixels * 1 * 2 * frames / 1e9  # no gradient goes on to the silhouettes
    counted = multiply_adds(step)
    assert 3 * forward - first <= counted < 1.2 * (3 * forward - first)


def test_an_iteration_has_cpu_and_wall_time(step):
    from training import iteration

    processor_ms, ms = iteration(step)
    assert processor_ms > 0
    assert ms > 0


def test_the_example_of_the_script_is_true():
    pytest.importorskip("torch", reason="needs torch")
    import training

    done = doctest.testmod(training)
    assert (done.attempted, done.failed) == (1, 0)
