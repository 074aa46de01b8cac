"""Training settings: contradictory configurations are refused with a hint."""

import pytest

from cstl_edge.errors import ConfigError

from .conftest import config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.iteration=3", "Did you mean 'iterations'"),
        ("sampler.rule=sorted", "expected one of released, paper, opengait"),
        ("model.part=4", "Did you mean 'parts'"),
        ("model.classes=3", "follows from the data"),
        ("model.class_head=both", "follows from optimiser.class_weight"),
        ("optimiser.cosine_iterations=9", "belong to optimiser.schedule cosine"),
        ("optimiser.rate=-1", "optimiser.rate"),
        ("optimiser.steps=[5]", "belong to optimiser.schedule step"),
        ("run.iterations=null", "expected run.iterations or run.minutes"),
        ("run.device=gpu", "run.device: .*'auto', 'cpu' or 'cuda'"),
        ("run.precision=fp16", "run.precision: .*'float16'"),
        ("run.accumulate=0", "run.accumulate"),
        ("data.splt=all", "Did you mean 'split'"),
        ("walkers={people: 4, size: [128, 88]}", r"walkers\.size is \[128, 88\], model\.size"),
        ("evaluate={}", "either evaluate.every or evaluate.minutes"),
        ("evaluate={every: 3, minutes: 1}", "either evaluate.every or evaluate.minutes"),
        ("evaluate={evry: 3}", "Did you mean 'every'"),
        ("evaluate={every: 3, people: 1}", "people"),
    ],
)
def test_invalid_configuration_is_refused_with_a_hint(override, message):
    with pytest.raises(ConfigError, match=message):
        config(override)


@pytest.mark.parametrize(
    ("overrides", "classes", "head"),
    [
        ([], 5, "scores"),
        (["optimiser.embedding_class_weight=0.1"], 5, "both"),
        (["optimiser={class_weight: 0, embedding_class_weight: 0.1}"], 5, "embedding"),
        (["optimiser.class_weight=0"], 0, "scores"),
        (["model.salient=false"], 0, "scores"),
        (["model.salient=false", "optimiser.embedding_class_weight=0.1"], 5, "embedding"),
    ],
    ids=str,
)
def test_class_heads_are_those_with_a_weight(overrides, classes, head):
    network = config(*overrides).network(classes=5)
    assert (network.classes, network.class_head) == (classes, head)


def test_evaluation_of_walkers_requires_separate_walkers():
    walkers = "walkers={people: 4, frames: 4}"
    with pytest.raises(ConfigError, match=r"evaluate needs evaluate\.walkers"):
        config(walkers, "evaluate.every=3")
    config(walkers, "evaluate={every: 3, walkers: {people: 2, first: 7}}")
