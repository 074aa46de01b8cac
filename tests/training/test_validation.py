"""Validation during training: rank-1 of the weights to be saved, and the best saved apart."""

import numpy as np
import pytest
import torch
from standin_people import Bars, LabelledBars

from cstl_edge.checkpoint.weights import load_checkpoint
from cstl_edge.errors import ConfigError, DataError
from cstl_edge.evaluation.closed_set import rank1_table
from cstl_edge.evaluation.embeddings import LabelledEmbeddings
from cstl_edge.training import recorder
from cstl_edge.training.run_state import BEST, RESUME, WEIGHTS, start_run
from cstl_edge.training.trainer import train
from cstl_edge.training.validation import embed_sequences, inference_network, validate

from .conftest import config, log, tensor_bytes


def validations(folder):
    return [line for line in log(folder) if "rank1" in line]


@pytest.fixture(scope="module")
def validation_people():
    return LabelledBars()


def test_rank1_is_that_of_the_weights_to_be_saved(tmp_path, validation_people):
    run = start_run(config("optimiser.average_decay=0.5"), Bars())
    with torch.no_grad():
        run.model.embed.weight.mul_(-2)  # the average, which is saved, knows nothing of it
    record = validate(run, validation_people)
    recorder.write_checkpoint(tmp_path, run)
    network, _ = load_checkpoint(tmp_path / WEIGHTS)
    walks = [
        torch.from_numpy(validation_people.read(i))[None]
        for i in range(len(validation_people.people))
    ]
    with torch.inference_mode():
        x = np.concatenate([network(walk)[0].numpy() for walk in walks])
    labels = (validation_people.people, validation_people.sequences, validation_people.views_deg)
    expected = rank1_table(LabelledEmbeddings(x, *labels))
    assert record["protocol"] == "casia-b"
    assert record["rank1"] == pytest.approx(expected["mean"]["cross_view"], abs=0.03)  # float16
    for condition in ("nm", "bg", "cl"):
        assert record[condition] == pytest.approx(expected[condition]["cross_view"], abs=0.06)
    low, high = record["rank1_95"]
    assert low <= record["rank1"] <= high


def test_embeddings_do_not_depend_on_the_batches(validation_people):
    network = inference_network(start_run(config(), Bars()))
    whole, single = (embed_sequences(network, validation_people, frames) for frames in (10**6, 1))
    assert whole.shape == (len(validation_people.people), 4, 16)
    np.testing.assert_allclose(whole, single, atol=1e-5)
    assert len(set(validation_people.lengths.tolist())) > 2


def test_validation_does_not_change_the_run(tmp_path, validation_people):
    alone = train(config(), Bars(), tmp_path / "alone")
    settings = config("evaluate.every=3", "evaluate.people=4")
    seen = train(settings, Bars(), tmp_path / "seen", validation_data=validation_people)
    assert tensor_bytes(alone) == tensor_bytes(seen)
    assert [line["iteration"] for line in validations(tmp_path / "seen")] == [3, 6, 8]


def test_best_weights_are_kept_across_a_resume(tmp_path, validation_people, monkeypatch):
    figures = iter([0.5, 0.7, 0.6, 0.7, 0.2])

    def validate(run, test):
        return {"iteration": run.iteration, "rank1": next(figures), "protocol": "casia-b"}

    monkeypatch.setattr(recorder, "validate", validate)
    first, second = (config("evaluate.every=2", f"run.iterations={end}") for end in (5, 8))
    train(first, Bars(), tmp_path, validation_data=validation_people)
    best = load_checkpoint(tmp_path / BEST)[1]
    assert (best["iterations"], best["evaluation"]["rank1"]) == (4, 0.7)
    before = (tmp_path / BEST).read_bytes()
    train(second, Bars(), tmp_path, validation_data=validation_people, resume=True)
    assert [line["rank1"] for line in validations(tmp_path)] == [0.5, 0.7, 0.6, 0.7, 0.2]
    assert (tmp_path / BEST).read_bytes() == before
    assert load_checkpoint(tmp_path / WEIGHTS)[1]["iterations"] == 8
    assert (tmp_path / RESUME).exists()


def test_validation_interval_counts_training_minutes_alone(tmp_path, validation_people):
    settings = config("evaluate.minutes=1e-6", "run.iterations=2")
    train(settings, Bars(), tmp_path, validation_data=validation_people)
    assert [line["iteration"] for line in validations(tmp_path)] == [1, 2]


def test_evaluate_section_and_people_require_each_other(tmp_path, validation_people):
    with pytest.raises(ConfigError, match="or neither"):
        train(config(), Bars(), tmp_path, validation_data=validation_people)
    with pytest.raises(ConfigError, match="or neither"):
        train(config("evaluate.every=2"), Bars(), tmp_path)


def test_validation_people_of_one_view_are_a_data_error():
    people = LabelledBars()
    people.views_deg[:] = 0
    with pytest.raises(DataError, match="views"):
        validate(start_run(config(), Bars()), people)
