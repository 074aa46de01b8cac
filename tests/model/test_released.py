"""The released form: equal to a plain implementation from its key table, and trained."""

from __future__ import annotations

import pytest
import torch
from standin_released import released_network, released_state
from tiny_cstl import TINY as SMALL
from tiny_cstl import int32, walk
from torch import Tensor

from cstl_edge.checkpoint.import_released import convert_state
from cstl_edge.model import Cstl, CstlConfig

TINY = {**SMALL, "parts": 4, "classes": 3}


def config(**changes: object) -> CstlConfig:
    return CstlConfig(**{"variant": "released", **TINY, **changes})


def network(seed: int = 0, **changes: object) -> tuple[Cstl, dict[str, Tensor]]:
    settings = config(**changes)
    shape = settings.parts, settings.widths, settings.embedding, settings.classes
    state = released_state(*shape, seed)
    net = Cstl(settings)
    net.load_state_dict(convert_state(state, settings))
    return net.eval(), state


@pytest.mark.parametrize("seed", range(3))
def test_released_network_equals_plain_implementation(seed: int) -> None:
    net, state = network(seed)
    net, silhouettes = net.double(), walk(3, 7)
    expected, expected_logits = released_network(state, silhouettes)
    embedding, frames, logits = net._head(net._sequences(silhouettes), None)
    torch.testing.assert_close(embedding, expected, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-10, atol=1e-11)
    assert frames is not None
    assert len(frames.unique()) > 1  # else the test could not tell frames apart


@pytest.mark.parametrize(
    ("height", "width", "whole", "inference"),
    [(64, 44, 9_091_232, 9_073_696), (128, 88, 17_933_216, 17_907_488)],
)
def test_number_of_parameters(height: int, width: int, whole: int, inference: int) -> None:
    with torch.device("meta"):
        sizes = {"size": (height, width), "parts": height // 2, "variant": "released"}
        counts = [
            sum(p.numel() for p in Cstl(CstlConfig(**sizes, classes=classes)).parameters())
            for classes in (73, 0)
        ]
    assert counts == [whole, inference]


@pytest.mark.parametrize("loss", ["triplet", "classes"])
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_both_losses_teach_the_released_scores(variant: str, loss: str) -> None:
    torch.manual_seed(0)
    net = Cstl(config(variant=variant)).train()
    outputs = net.training_outputs(walk())
    (outputs.embedding if loss == "triplet" else outputs.logits).square().mean().backward()
    taught = net.scores.second.weight.grad is not None
    assert taught == (variant == "released" or loss == "classes")


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    net = Cstl(config()).train()
    torch.nn.init.normal_(net.class_head.weight)  # it starts at zero
    outputs = net.training_outputs(walk())
    (outputs.embedding.square().mean() + outputs.logits.square().mean()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_autocast_and_half_stay_close() -> None:
    net, _ = network()
    features, lengths = torch.rand(2, 6, 4, 32), int32(6, 2)
    expected, _ = net.head(features, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        autocast, _ = net.head(features, lengths)
    half, _ = net.half().head(features.half(), lengths)
    for actual, bits in ((autocast, 8), (half, 11)):
        assert actual.dtype == torch.float32
        assert (actual - expected).abs().max() < 2 ** (3 - bits) * expected.abs().max()


def test_config_omits_variant_of_the_paper_form() -> None:
    assert "variant" not in CstlConfig().to_dict()
    assert CstlConfig.from_dict(CstlConfig().to_dict()).variant == "paper"
    assert CstlConfig.from_dict(config().to_dict()) == config() != config(variant="paper")
    assert set(Cstl(config(variant="paper")).state_dict()) < set(Cstl(config()).state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "release"}, "variant must be one of .* got 'release'"),
        ({"variant": ["released"]}, "variant must be one of"),
        ({"scales": ("frame", "short")}, "variant released contradicts scales .*'frame', 'short'"),
        ({"aggregation": "max"}, "variant released contradicts aggregation max"),
        ({"salient": False, "classes": 0}, "variant released contradicts salient False"),
    ],
    ids=str,
)
def test_contradictions_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**settings)
