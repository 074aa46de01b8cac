"""Part gather: equality with a plain loop, edge cases, PyTorch operator checks."""

from __future__ import annotations

import math

import pytest
import torch
from plain_part_gather import plain_loop
from tiny_cstl import int32
from torch import Tensor

from cstl_edge.model import part_gather


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_plain_twin(seed: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(3, 7, 4, 5, generator=generator).to(dtype)
    scores = torch.randint(-3, 4, (3, 4, 7), generator=generator).to(dtype)  # many ties
    scores[torch.rand(3, 4, 7, generator=generator) < 0.2] = math.nan
    scores[torch.rand(3, 4, 7, generator=generator) < 0.2] = -math.inf
    lengths = torch.randint(1, 8, (3,), generator=generator).int()
    salient, frames = part_gather(features, scores, lengths)
    expected, expected_frames = plain_loop(features, scores, lengths)
    assert frames.dtype == torch.int32
    assert torch.equal(frames, expected_frames)
    assert torch.equal(salient, expected)


def test_ties_go_to_the_earliest_frame() -> None:
    scores = torch.tensor([[[1.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 3.0, 3.0]]])
    _, frames = part_gather(torch.randn(1, 4, 3, 2), scores, int32(4))
    assert frames.tolist() == [[1, 0, 2]]


def test_long_ties_are_first_too() -> None:
    # Vectorised arg max is where the first of equals gets lost: 1000 frames, equal from 613 on.
    scores = torch.zeros(1, 8, 1000)
    scores[:, :, 613:] = 1.0
    _, frames = part_gather(torch.randn(1, 1000, 8, 1), scores, int32(1000))
    assert frames.tolist() == [[613] * 8]


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_no_valid_score_gives_frame_zero(value: float) -> None:
    features = torch.randn(2, 5, 3, 4)
    salient, frames = part_gather(features, torch.full((2, 3, 5), value), int32(5, 2))
    assert not frames.any()
    assert torch.equal(salient, features[:, 0])


def test_padding_never_wins_and_never_leaks() -> None:
    features, scores = torch.randn(2, 6, 3, 4), torch.randn(2, 3, 6)
    for garbage in (math.nan, math.inf, 1e30):
        features[1, 2:], scores[1, :, 2:] = garbage, garbage
        salient, frames = part_gather(features, scores, int32(6, 2))
        assert salient.isfinite().all()
        assert (frames[1] < 2).all()


def test_takes_permuted_input() -> None:
    features, scores = torch.randn(2, 3, 6, 4), torch.randn(3, 2, 6)
    by_frame, by_sequence = features.transpose(1, 2), scores.transpose(0, 1)
    salient, _ = part_gather(by_frame, by_sequence, int32(6, 4))
    expected, _ = part_gather(by_frame.contiguous(), by_sequence.contiguous(), int32(6, 4))
    assert torch.equal(salient, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype: torch.dtype) -> None:
    features = torch.randn(2, 5, 3, 4, dtype=dtype, requires_grad=True)
    scores = torch.randn(2, 3, 5, dtype=dtype, requires_grad=True)
    torch.library.opcheck(torch.ops.cstl_edge.part_gather.default, (features, scores, int32(5, 2)))


def test_gradcheck() -> None:
    features = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    scores, lengths = torch.randn(2, 3, 5, dtype=torch.float64), int32(5, 3)
    assert torch.autograd.gradcheck(lambda x: part_gather(x, scores, lengths)[0], features)


def test_gradient_reaches_the_chosen_frames_alone() -> None:
    features = torch.randn(2, 5, 3, 4, requires_grad=True)
    salient, frames = part_gather(features, torch.randn(2, 3, 5), int32(5, 3))
    weight = torch.randn_like(salient)
    (salient * weight).sum().backward()
    expected = torch.zeros_like(features)
    for b in range(2):
        for k in range(3):
            expected[b, frames[b, k], k] = weight[b, k]
    assert torch.equal(features.grad, expected)


@pytest.mark.parametrize(
    ("scores", "lengths", "message"),
    [
        (torch.zeros(2, 3, 4), int32(5, 5), "features .* and scores"),
        (torch.zeros(2, 3, 5).double(), int32(5, 5), "of one type"),
        (torch.zeros(2, 3, 5), torch.tensor([5, 5]), "lengths int32"),
        (torch.zeros(2, 3, 5), int32(5), "lengths int32"),
    ],
)
def test_mismatched_inputs_are_refused(scores: Tensor, lengths: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part_gather(torch.zeros(2, 5, 3, 4), scores, lengths)
