"""Export head: equality with `Cstl.head`, with any padding."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_cstl import fresh_network, int32, network, padded

from cstl_edge.model.export_head import ExportHead


@pytest.mark.parametrize("lengths", [(1,), (2,), (9,), (9, 9), (9, 1, 4), (3, 5)], ids=str)
@torch.no_grad()
def test_export_head_equals_head_up_to_rounding(lengths: tuple[int, ...]) -> None:
    net = (
        network().fused().double()
    )  # so that a tolerance of 1e-6 leaves no room for another formula
    features = torch.rand(len(lengths), max(lengths), 2, 32, dtype=torch.float64) * 3
    expected, frames = net.head(features, int32(*lengths))
    actual, chosen = ExportHead(net)(features, int32(*lengths))
    torch.testing.assert_close(actual.double(), expected.double(), rtol=1e-6, atol=1e-6)
    assert frames is not None
    assert chosen.dtype == torch.int32
    assert chosen.tolist() == frames.tolist()


@pytest.mark.parametrize("garbage", [1e30, math.inf, math.nan])
@torch.no_grad()
def test_neither_padding_nor_neighbours_change_a_window(garbage: float) -> None:
    net, features, lengths = network().fused(), torch.rand(4, 7, 2, 32), (4, 7, 1, 6)
    together, chosen = ExportHead(net)(padded(features, lengths, garbage), int32(*lengths))
    for i, length in enumerate(lengths):
        alone, frames = ExportHead(net)(features[i : i + 1, :length], int32(length))
        torch.testing.assert_close(together[i], alone[0], rtol=1e-5, atol=1e-6)
        assert chosen[i].tolist() == frames[0].tolist()


@pytest.mark.parametrize("level", [-20.0, -200.0, 200.0])
@torch.no_grad()
def test_gates_that_are_closed_in_every_frame_still_weigh_frames(level: float) -> None:
    net, features, lengths = network().fused(), torch.rand(2, 6, 2, 32), int32(6, 4)
    assert net.long is not None
    assert net.aggregation is not None
    net.long.second.weight.mul_(level)  # behind a ReLU: far to one side
    for layer in net.aggregation.second.values():
        layer.weight.mul_(abs(level))
    expected, _ = net.head(features, lengths)
    actual, _ = ExportHead(net)(features, lengths)
    assert actual.isfinite().all()
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_of_equal_scores_the_earliest_frame_wins() -> None:
    net, features = network().fused(), torch.rand(2, 6, 2, 32)
    assert net.scores is not None
    net.scores.second.weight.zero_()
    _, frames = ExportHead(net)(features, int32(6, 3))
    assert frames.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("form", [{"salient": False}, {"variant": "released"}], ids=str)
def test_other_networks_are_refused(form: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected the paper's whole network with folded norms"):
        ExportHead(network(**form).fused())


def test_norms_must_be_folded() -> None:
    with pytest.raises(ValueError, match="with folded norms"):
        ExportHead(fresh_network())
