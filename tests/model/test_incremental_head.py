"""Incremental head: equality with `Cstl.head`, and reuse of inner frames."""

from __future__ import annotations

import pytest
import torch
from tiny_cstl import network
from torch import Tensor

from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.model.head_matrices import has_fast_heads
from cstl_edge.model.incremental_head import (
    Mix,
    Slide,
    Taps,
    incremental_state,
)


def turned(windows: tuple[Tensor, ...], by: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Each window as it lies in a ring whose oldest frame is at `by`, and where its frames lie."""
    s = windows[0].shape[2]
    slots = torch.stack([(torch.arange(s) + k) % s for k in by])
    rings = (torch.stack([w.roll(k, 1) for w, k in zip(t, by, strict=True)]) for t in windows)
    return *rings, slots


def incremental(net: Cstl, features: Tensor, oldest: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    actual: tuple[Tensor, Tensor] = Slide(net)(*turned(incremental_state(net, features), oldest))
    return actual


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("s", [1, 2, 3, 4, 5, 9])
@torch.no_grad()
def test_chained_graphs_equal_the_head(s: int, fused: bool) -> None:
    net, features = network(), torch.rand(3, s, 2, 32) * 3
    expected, frames = net.head(features)
    embedding, chosen = incremental(net.fused() if fused else net, features, (0, s // 2, s - 1))
    torch.testing.assert_close(embedding, expected, rtol=1e-5, atol=1e-5)
    assert frames is not None
    assert chosen.dtype == torch.int32
    assert chosen.tolist() == frames.tolist()


@pytest.mark.parametrize("s", [1, 2, 3, 4, 5, 9])
@torch.no_grad()
def test_shares_of_frames_add_up_to_the_short_term_features(s: int) -> None:
    net, features = network(), torch.rand(2, s, 2, 32)
    assert net.short is not None
    x = features.permute(2, 3, 0, 1)  # [p, c, n, s]
    expected = (x + net.short(x, None)).permute(2, 0, 3, 1)  # [n, p, s, c]
    of_frames, sums, again = torch.chunk(incremental_state(net, features)[0], 3, 3)
    torch.testing.assert_close(of_frames, features.transpose(1, 2), rtol=0, atol=0)
    torch.testing.assert_close(sums, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again, sums, rtol=0, atol=0)


@torch.no_grad()
def test_a_frame_is_multiplied_once_wherever_it_is() -> None:
    net, walk = network(), torch.rand(1, 20, 2, 32)
    whole = incremental_state(net, walk)
    window = incremental_state(net, walk[:, 5:14])  # frames 5 to 13, of which 7 to 11 are inner
    for in_walk, in_window in zip(whole, window, strict=True):
        torch.testing.assert_close(in_window[:, :, 2:-2], in_walk[:, :, 7:12])
    torch.testing.assert_close(window[3], whole[3][:, :, 5:14])  # the gates of Eq. 1 all over
    for edge in (0, 1, 7, 8):
        assert not torch.allclose(window[0][:, :, edge], whole[0][:, :, 5 + edge])


@pytest.mark.parametrize(("level", "steepness"), [(-20, 200), (-45, 1), (45, 1), (20, 20)])
@torch.no_grad()
def test_gates_that_are_closed_in_every_frame_still_weigh_frames(
    level: float, steepness: float
) -> None:
    net, features = network(), torch.rand(2, 6, 2, 32)
    assert net.long is not None
    assert net.aggregation is not None
    net.long.second.weight.mul_(level)  # behind a ReLU: far to one side
    for layer in net.aggregation.second.values():
        layer.weight.mul_(steepness)
    expected, _ = net.head(features)
    actual, _ = incremental(net, features, (2, 5))
    assert actual.isfinite().all()
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_long_term_feature_of_fully_closed_gates_is_the_mean() -> None:
    net, features = network(), torch.rand(1, 6, 2, 32) + 0.1
    assert net.long is not None
    net.long.first.weight.fill_(1.0)
    net.long.second.weight.fill_(-100.0)
    values, _, _, gates = incremental_state(net, features)
    opened, weighed = torch.chunk(gates.sum(2), 2, 2)
    torch.testing.assert_close(weighed / opened, values[..., :32].mean(2))


@torch.no_grad()
def test_of_equal_scores_the_oldest_frame_wins_wherever_it_lies() -> None:
    net, features = network(), torch.rand(2, 6, 2, 32)
    assert net.scores is not None
    net.scores.second.weight.zero_()
    expected, _ = net.head(features)
    actual, frames = incremental(net, features, (4, 1))
    assert frames.tolist() == [[0, 0], [0, 0]]
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_nan_score_never_wins() -> None:
    net, features = network(), torch.rand(1, 6, 2, 32)
    windows = incremental_state(net, features)
    _, frames = Slide(net)(*turned(windows, (0,)))
    score_hidden = windows[2]  # the hidden layer of Eq. 6
    for part, frame in enumerate(frames[0].tolist()):
        score_hidden[0, part, frame] = torch.nan
    _, others = Slide(net)(*turned(windows, (0,)))
    assert (others != frames).all()
    score_hidden[:] = torch.nan
    _, first = Slide(net)(*turned(windows, (3,)))
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
    assert not has_fast_heads(net.config)
    for graph in (Taps, Mix, Slide):
        with pytest.raises(ValueError, match="only the paper's whole network has a sliding form"):
            graph(net)


def test_the_papers_network_slides() -> None:
    assert has_fast_heads(CstlConfig())
    assert has_fast_heads(CstlConfig(classes=9))
