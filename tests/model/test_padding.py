"""Padding: each sequence of a batch gets the outputs that it gets alone."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_cstl import int32, network, padded, walk
from torch import Tensor

from cstl_edge.model.temporal import PartNorm, ShortTerm

LENGTHS = (9, 1, 2, 5, 8)
FORMS = [
    {},
    {"aggregation": "max"},
    {"aggregation": "mean"},
    {"salient": False},
    {"scales": ("frame",), "aggregation": "max", "salient": False},
    {"scales": ("short",)},
    {"scales": ("long",)},
    {"scales": ("long",), "aggregation": "max"},
    {"scales": ("long",), "aggregation": "mean"},
    {"scales": ("short", "long")},
    {"variant": "released", "classes": 3},
]


@pytest.mark.parametrize("garbage", [0.0, 1e30, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_padded_equals_alone(form: dict[str, object], garbage: float) -> None:
    net, features = network(**form), torch.rand(5, 9, 2, 32) * 3
    together = net._head(padded(features, LENGTHS, garbage), int32(*LENGTHS))
    for b, length in enumerate(LENGTHS):
        alone = net._head(features[b : b + 1, :length], None)
        for many, one in zip(together, alone, strict=True):  # embedding, frames, class logits
            if many is not None and one is not None:
                torch.testing.assert_close(many[b], one[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_padded_silhouettes_equal_alone_on_a_real_size(seed: int) -> None:
    net = network(seed, size=(64, 44), parts=8, widths=(4, 4, 8, 16), embedding=16)
    silhouettes = torch.randint(0, 256, (3, 7, 64, 44), dtype=torch.uint8)
    lengths = torch.randint(1, 8, (3,)).int()
    embedding, _ = net(silhouettes, lengths)
    for b, length in enumerate(lengths.tolist()):
        alone, _ = net(silhouettes[b : b + 1, :length])
        torch.testing.assert_close(embedding[b], alone[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_short_term_at_the_border(length: int) -> None:
    short = network().short
    assert isinstance(short, ShortTerm)
    x = torch.zeros(2, 32, 1, 6)
    x[..., :length] = torch.randn(2, 32, 1, length)
    mask = (torch.arange(6) < length).float()[None]
    together, alone = short(x, mask)[..., :length], short(x[..., :length], None)
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)


def test_no_lengths_means_all_frames() -> None:
    net, features = network(), torch.rand(3, 6, 2, 32)
    torch.testing.assert_close(net.head(features), net.head(features, int32(6, 6, 6)))


@pytest.mark.parametrize("frames", [1, 2, 3, 40])
def test_any_number_of_frames(frames: int) -> None:
    embedding, salient = network().head(torch.rand(2, frames, 2, 32))
    assert embedding.isfinite().all()
    assert salient is not None
    assert salient.max() < frames


def test_norm_in_training_counts_valid_frames_alone() -> None:
    torch.manual_seed(3)
    masked, plain = PartNorm(2, 4).train(), PartNorm(2, 4).train()
    x, lengths = torch.randn(2, 4, 3, 6) * 2 + 1, (6, 1, 3)
    mask = torch.stack([(torch.arange(6) < length).float() for length in lengths])
    valid = torch.cat([x[:, :, b, :length] for b, length in enumerate(lengths)], 2)  # [p, c, m]
    expected = plain(valid[:, :, None], None)
    actual = masked(torch.where(mask > 0, x, 1e3), mask)
    together = torch.cat([actual[:, :, b, :length] for b, length in enumerate(lengths)], 2)
    torch.testing.assert_close(together, expected[:, :, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(masked.running_mean, plain.running_mean)
    torch.testing.assert_close(masked.running_var, plain.running_var)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_training_ignores_the_padding_and_gives_it_no_gradient(variant: str) -> None:
    results, gradients = [], []
    for garbage in (0.0, math.nan):
        net = network(classes=3, variant=variant).train()
        torch.manual_seed(5)
        features = padded(torch.rand(5, 9, 2, 32), LENGTHS, garbage).requires_grad_()
        embedding, _, logits = net._head(features, int32(*LENGTHS))
        assert logits is not None
        (embedding.square().mean() + logits.square().mean()).backward()
        assert features.grad is not None
        results.append((embedding, logits, *net.buffers()))  # the norms' running statistics too
        gradients.append(features.grad)
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    for b, length in enumerate(LENGTHS):
        assert not gradients[1][b, length:].any()
        assert gradients[1][b, :length].any()


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_training_with_full_lengths_equals_training_without(variant: str) -> None:
    form, silhouettes = {"classes": 3, "variant": variant}, walk(3, 5)
    outputs = [
        network(**form).train().training_outputs(silhouettes, lengths)
        for lengths in (None, int32(5, 5, 5))
    ]
    torch.testing.assert_close(outputs[0], outputs[1])
    net = network(**form).train()
    masked, _, logits = net._head(net._sequences(silhouettes), int32(5, 5, 5))  # masked norms
    torch.testing.assert_close((masked, logits), tuple(outputs[0][:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (int32(0, 3), r"in 1\.\.4, got \[0, 3\]"),
        (int32(4, 5), r"in 1\.\.4"),
        (int32(4), r"int32 \[2\]"),
        (torch.tensor([4, 4]), "int64"),
    ],
)
def test_impossible_lengths_are_refused(lengths: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network().head(torch.rand(2, 4, 2, 32), lengths)
