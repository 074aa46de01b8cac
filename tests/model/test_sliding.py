"""The head in two cuts is the head, and inner frames are kept whatever the window."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.model.sliding import Kept, Local, Slide, slides
from cstl_edge.model.temporal import PartNorm

TINY = {"size": (8, 4), "widths": (2, 3, 4, 32), "parts": 2, "embedding": 6}


def network(seed: int = 0, **settings: object) -> Cstl:
    torch.manual_seed(seed)
    net = Cstl(CstlConfig(**{**TINY, **settings})).eval()
    for module in net.modules():
        if isinstance(module, PartNorm):  # away from identity: padding is lifted off zero
            module.running_mean.normal_()
            module.bias.data.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return net


def int32(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def rotated(kept: Kept, by: tuple[int, ...]) -> Kept:
    """Each window as it lies in a ring whose oldest frame is at `by`."""
    return Kept(*(torch.stack([w.roll(k, 1) for w, k in zip(t, by, strict=True)]) for t in kept))


def in_two_cuts(net: Cstl, features: Tensor, oldest: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    n, s = features.shape[:2]
    kept = Local(net)(features, int32(*[s] * n))
    found: tuple[Tensor, Tensor] = Slide(net)(*rotated(kept, oldest), int32(*oldest))
    return found


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("s", [1, 2, 3, 4, 5, 9])
@torch.no_grad()
def test_one_after_the_other_is_the_head(s: int, fused: bool) -> None:
    net, features = network(), torch.rand(3, s, 2, 32) * 3
    expected, frames = net.head(features)
    cut, chosen = in_two_cuts(net.fused() if fused else net, features, (0, s // 2, s - 1))
    torch.testing.assert_close(cut, expected, rtol=1e-5, atol=1e-5)
    assert frames is not None
    assert chosen.dtype == torch.int32
    assert chosen.tolist() == frames.tolist()


@torch.no_grad()
def test_inner_frames_are_the_same_in_every_window() -> None:
    net, walk = network(), torch.rand(1, 20, 2, 32)
    whole = Local(net)(walk, int32(20))
    window = Local(net)(walk[:, 5:14], int32(9))  # frames 5 to 13, of which 7 to 11 are inner
    for in_walk, in_window in zip(whole, window, strict=True):
        torch.testing.assert_close(in_window[:, :, 2:-2], in_walk[:, :, 7:12])
    for edge in (0, 1, 7, 8):
        assert not torch.allclose(window.sums[:, :, edge], whole.sums[:, :, 5 + edge])


@pytest.mark.parametrize("garbage", [1e30, math.inf, math.nan])
@torch.no_grad()
def test_strips_of_other_lengths_beside_change_nothing(garbage: float) -> None:
    net, features, lengths = network(), torch.rand(3, 7, 2, 32), (7, 1, 4)
    padded = features.clone()
    for strip, length in zip(padded, lengths, strict=True):
        strip[length:] = garbage
    together = Local(net)(padded, int32(*lengths))
    for i, length in enumerate(lengths):
        alone = Local(net)(features[i : i + 1, :length], int32(length))
        for many, one in zip(together, alone, strict=True):
            torch.testing.assert_close(many[i, :, :length], one[0])


@pytest.mark.parametrize("level", [-20.0, -200.0, 200.0])
@torch.no_grad()
def test_gates_that_are_closed_in_every_frame_still_weigh_frames(level: float) -> None:
    net, features = network(), torch.rand(2, 6, 2, 32)
    assert net.long is not None
    assert net.aggregation is not None
    net.long.second.weight.mul_(level)  # behind a ReLU: far to one side
    for layer in net.aggregation.second.values():
        layer.weight.mul_(abs(level))
    expected, _ = net.head(features)
    found, _ = in_two_cuts(net, features, (2, 5))
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_of_equal_scores_the_oldest_frame_wins_wherever_it_lies() -> None:
    net, features = network(), torch.rand(2, 6, 2, 32)
    assert net.scores is not None
    net.scores.second.weight.zero_()
    expected, _ = net.head(features)
    found, frames = in_two_cuts(net, features, (4, 1))
    assert frames.tolist() == [[0, 0], [0, 0]]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_score_that_is_no_number_never_wins() -> None:
    net, features = network(), torch.rand(1, 6, 2, 32)
    kept = Local(net)(features, int32(6))
    _, frames = Slide(net)(*kept, int32(0))
    units = kept.hidden.shape[3] // 2
    for part, frame in enumerate(frames[0].tolist()):
        kept.hidden[0, part, frame, units:] = torch.nan  # the hidden layer of Eq. 6
    _, others = Slide(net)(*kept, int32(0))
    assert (others != frames).all()
    kept.hidden[..., units:] = torch.nan
    _, first = Slide(net)(*rotated(kept, (3,)), int32(3))
    assert first.tolist() == [[0, 0]]


@pytest.mark.parametrize(
    "form",
    [
        {"scales": ("frame", "long")},
        {"scales": ("short", "long")},
        {"aggregation": "max"},
        {"salient": False},
        {"variant": "released"},
    ],
    ids=str,
)
def test_other_networks_have_no_sliding_form(form: dict[str, object]) -> None:
    net = network(**form)
    assert not slides(net.config)
    for cut in (Local, Slide):
        with pytest.raises(ValueError, match="only the paper's whole network has a sliding form"):
            cut(net)


def test_the_papers_network_slides() -> None:
    assert slides(CstlConfig())
    assert slides(CstlConfig(classes=9))
