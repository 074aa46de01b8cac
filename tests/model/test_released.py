"""The released form: equal to a plain implementation from its key table; masked, fused, trained."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from standin_released import released_network, released_state
from torch import Tensor

from cstl_edge.checkpoint.import_released import convert_state
from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.model.temporal import PartNorm

TINY = {"size": (8, 4), "widths": (2, 3, 4, 32), "parts": 4, "embedding": 6, "classes": 3}
LENGTHS = (9, 1, 2, 5, 8)


def config(**changes: object) -> CstlConfig:
    return CstlConfig(**{"variant": "released", **TINY, **changes})


def network(seed: int = 0, **changes: object) -> tuple[Cstl, dict[str, Tensor]]:
    settings = config(**changes)
    shape = settings.parts, settings.widths, settings.embedding, settings.classes
    state = released_state(*shape, seed)
    net = Cstl(settings)
    net.load_state_dict(convert_state(state, settings))
    return net.eval(), state


def walk(n: int, s: int, h: int, w: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, s, h, w), dtype=torch.uint8, generator=generator)


def int32(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


@pytest.mark.parametrize("seed", range(3))
def test_it_computes_what_the_plain_implementation_does(seed: int) -> None:
    net, state = network(seed)
    net, silhouettes = net.double(), walk(3, 7, 8, 4)
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


@pytest.mark.parametrize("garbage", [0.0, 1e30, math.inf, math.nan])
def test_padded_equals_alone(garbage: float) -> None:
    net, _ = network()
    features = torch.rand(5, 9, 4, 32) * 3
    padded = features.clone()
    for b, length in enumerate(LENGTHS):
        padded[b, length:] = garbage
    embedding, frames, logits = net._head(padded, int32(*LENGTHS))
    assert frames is not None
    for b, length in enumerate(LENGTHS):
        alone, alone_frames, alone_logits = net._head(features[b : b + 1, :length], None)
        torch.testing.assert_close(embedding[b], alone[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(logits[b], alone_logits[0], rtol=1e-5, atol=1e-5)
        assert torch.equal(frames[b], alone_frames[0])


def test_training_ignores_the_padding_and_gives_it_no_gradient() -> None:
    results, gradients = [], []
    for garbage in (0.0, math.nan):
        net = network()[0].train()
        torch.manual_seed(5)
        features = torch.rand(5, 9, 4, 32)
        for b, length in enumerate(LENGTHS):
            features[b, length:] = garbage
        features.requires_grad_()
        embedding, _, logits = net._head(features, int32(*LENGTHS))
        (embedding.square().mean() + logits.square().mean()).backward()
        results.append((embedding, logits, net.scores.norm.running_var, net.long.norm.running_mean))
        gradients.append(features.grad)
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    for b, length in enumerate(LENGTHS):
        assert not gradients[1][b, length:].any()
        assert gradients[1][b, :length].any()


def test_masked_norms_of_a_full_batch_are_the_plain_ones() -> None:
    silhouettes = walk(3, 5, 8, 4)
    plain = network()[0].train().training_outputs(silhouettes)
    net = network()[0].train()
    embedding, _, logits = net._head(net._sequences(silhouettes), int32(5, 5, 5))
    torch.testing.assert_close(embedding, plain.embedding, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, plain.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["triplet", "classes"])
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_both_losses_teach_the_released_scores(variant: str, loss: str) -> None:
    torch.manual_seed(0)
    net = Cstl(config(variant=variant)).train()
    outputs = net.training_outputs(walk(4, 6, 8, 4))
    (outputs.embedding if loss == "triplet" else outputs.logits).square().mean().backward()
    taught = net.scores.second.weight.grad is not None
    assert taught == (variant == "released" or loss == "classes")


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    net = Cstl(config()).train()
    outputs = net.training_outputs(walk(4, 6, 8, 4))
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


def test_fused_is_equal_and_has_no_norms() -> None:
    net, _ = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    fused = net.fused()
    assert not any(isinstance(module, PartNorm) for module in fused.modules())
    assert (fused.config.classes, fused.class_head) == (0, None)
    silhouettes, lengths = walk(4, 6, 8, 4), int32(6, 3, 1, 5)
    expected, actual = net(silhouettes, lengths), fused(silhouettes, lengths)
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-5, atol=1e-5)
    assert torch.equal(actual[1], expected[1])
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())


def test_trace_is_dynamic_in_batch_and_frames() -> None:
    net = network()[0].fused()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit itself
        warnings.simplefilter("error", torch.jit.TracerWarning)
        example = walk(4, 6, 8, 4), int32(6, 3, 1, 5)
        traced = torch.jit.trace(net, example, check_trace=False)
    for n, s, ends in ((1, 1, [1]), (2, 11, [11, 4]), (5, 3, [3, 2, 1, 3, 1])):
        other = walk(n, s, 8, 4), int32(*ends)
        torch.testing.assert_close(traced(*other), net(*other))


def test_the_paper_form_goes_without_saying() -> None:
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
