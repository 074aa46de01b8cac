"""Triplet loss and cross-entropy against plain loops written from the papers."""

import math

import numpy as np
import pytest
import torch

from cstl_edge.training.losses import (
    MARGIN,
    class_accuracy,
    cross_entropy,
    part_distances,
    triplet_loss,
)


def embedding(n, p=3, d=5, seed=0, scale=0.15):
    return scale * torch.randn(n, p, d, generator=torch.Generator().manual_seed(seed))


def looped_triplet(x, labels, margin, self_pairs):
    """Every triplet of every part, one by one, in float64."""
    x, n = x.double().numpy(), len(labels)
    losses, above, count = [], 0, 0
    for part in range(x.shape[1]):
        hinges = []
        for a in range(n):
            for p in range(n):
                for o in range(n):
                    if labels[p] != labels[a] or labels[o] == labels[a]:
                        continue
                    if p == a and not self_pairs:
                        continue
                    positive = np.linalg.norm(x[a, part] - x[p, part])
                    negative = np.linalg.norm(x[a, part] - x[o, part])
                    hinges.append(max(0.0, margin + positive - negative))
        nonzero = [hinge for hinge in hinges if hinge > 0]
        losses.append(sum(nonzero) / len(nonzero) if nonzero else 0.0)
        above, count = above + len(nonzero), count + len(hinges)
    return sum(losses) / len(losses), above / count if count else 0.0


@pytest.mark.parametrize("self_pairs", [False, True])
@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [4, 1, 1, 4, 4, 9, 1, 4], [0, 1, 2]])
def test_triplet_loss_equals_a_loop_over_all_triplets(labels, self_pairs):
    x = embedding(len(labels), seed=len(labels))
    result = triplet_loss(x, torch.tensor(labels), self_pairs=self_pairs)
    loss, nonzero = looped_triplet(x, labels, 0.2, self_pairs)
    assert result.loss.item() == pytest.approx(loss, abs=1e-6)
    assert result.nonzero.item() == pytest.approx(nonzero, abs=1e-6)


@pytest.mark.parametrize("self_pairs", [False, True])
def test_joint_triplet_loss_equals_a_loop_over_mean_distances(self_pairs):
    labels = [4, 1, 1, 4, 4, 9, 1, 4]
    x, n = embedding(8, seed=3), range(8)
    distance = [[float((x[a] - x[b]).double().norm(dim=1).mean()) for b in n] for a in n]
    hinges = [
        max(0.0, MARGIN + distance[a][p] - distance[a][o])
        for a in n
        for p in n
        for o in n
        if labels[p] == labels[a] != labels[o] and (self_pairs or p != a)
    ]
    above = [hinge for hinge in hinges if hinge > 0]
    result = triplet_loss(x, torch.tensor(labels), self_pairs=self_pairs, joint=True)
    assert result.loss.item() == pytest.approx(sum(above) / len(above), abs=1e-6)
    assert result.nonzero.item() == pytest.approx(len(above) / len(hinges), abs=1e-6)


def test_joint_triplet_loss_of_one_part_equals_the_separate_loss():
    x, labels = embedding(6, p=1), torch.tensor([0, 0, 1, 1, 2, 2])
    x.requires_grad_(True)
    losses = [triplet_loss(x, labels, joint=joint).loss for joint in (False, True)]
    first, second = (torch.autograd.grad(loss, x)[0] for loss in losses)
    assert losses[0].item() == pytest.approx(losses[1].item())
    torch.testing.assert_close(first, second)


def test_triplet_loss_of_a_worked_example():
    """One part on a line: one person at 0 and 0.1, another at 0.25; margin 0.2."""
    x, labels = torch.tensor([0.0, 0.1, 0.25]).reshape(3, 1, 1), torch.tensor([0, 0, 1])
    hinges = [0.2 + 0.1 - 0.25, 0.2 + 0.1 - 0.15]
    result = triplet_loss(x, labels)
    assert result.loss.item() == pytest.approx(sum(hinges) / 2, abs=1e-6)
    assert result.nonzero.item() == 1.0
    hinges += [0.2 - 0.15, 0.2 - 0.15]  # with itself: 0.1 and 0.25; 0 is below zero
    result = triplet_loss(x, labels, self_pairs=True)
    assert result.loss.item() == pytest.approx(sum(hinges) / 4, abs=1e-6)
    assert result.nonzero.item() == pytest.approx(4 / 6)


def test_a_part_without_violations_counts_as_zero():
    x = torch.zeros(4, 2, 1)
    x[2:, 0] = 10.0  # part 0 separates the people, part 1 holds all in one point
    result = triplet_loss(x, torch.tensor([0, 0, 1, 1]))
    assert result.loss.item() == pytest.approx(0.5 * 0.2)
    assert result.nonzero.item() == pytest.approx(0.5)


def test_satisfied_triplets_have_no_loss_and_no_gradient():
    x = (10.0 * torch.arange(4) // 20).reshape(4, 1, 1).repeat(1, 3, 2).requires_grad_()
    result = triplet_loss(x, torch.tensor([0, 0, 1, 1]))
    result.loss.backward()
    assert result.loss.item() == 0
    assert x.grad.abs().max() == 0


def test_gradients_are_finite_where_embeddings_coincide():
    x = torch.ones(6, 2, 4, requires_grad=True)
    triplet_loss(x, torch.tensor([0, 0, 1, 1, 2, 2]), self_pairs=True).loss.backward()
    assert torch.isfinite(x.grad).all()


def test_triplet_gradient_equals_the_numerical_gradient():
    x = embedding(6, p=2, d=3).double().requires_grad_()
    labels = torch.tensor([0, 1, 0, 1, 2, 2])
    assert torch.autograd.gradcheck(lambda y: triplet_loss(y, labels).loss, x)


def test_triplet_loss_does_not_depend_on_batch_order():
    x, labels = embedding(12), torch.arange(12) // 3
    shuffled = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    one, two = triplet_loss(x, labels), triplet_loss(x[shuffled], labels[shuffled])
    assert one.loss.item() == pytest.approx(two.loss.item(), abs=1e-6)


def test_part_distances_are_euclidean_and_zero_on_the_diagonal():
    x = embedding(5, scale=30.0)
    result = part_distances(x)
    expected = torch.cdist(x.transpose(0, 1), x.transpose(0, 1))
    assert result.shape == (3, 5, 5)
    torch.testing.assert_close(result, expected, atol=1e-2, rtol=1e-4)
    assert result.diagonal(dim1=1, dim2=2).abs().max() == 0


def test_cross_entropy_equals_the_sum_of_equation_8():
    n, p, classes = 4, 3, 6
    logits = torch.randn(n, p, classes, generator=torch.Generator().manual_seed(2))
    labels = [2, 0, 5, 2]
    total = 0.0
    for b in range(n):  # Eq. 8, where y is 1 for the sample's own person and 0 for all others
        for k in range(p):
            exponentials = [math.exp(value) for value in logits[b, k].tolist()]
            for c in range(classes):
                y = 1 if labels[b] == c else 0
                total -= y * math.log(exponentials[c] / sum(exponentials))
    result = cross_entropy(logits, torch.tensor(labels)).item()
    assert result == pytest.approx(total / (n * p), abs=1e-6)


def test_smoothing_spreads_a_share_of_every_label():
    logits = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(4))
    labels = torch.tensor([4, 0, 2])
    logs = logits.log_softmax(2)
    own = logs[torch.arange(3), :, labels].mean()
    expected = -(0.9 * own + 0.1 * logs.mean())
    torch.testing.assert_close(cross_entropy(logits, labels, 0.1), expected)


def test_class_accuracy_is_the_share_of_parts_that_name_the_person():
    logits = torch.zeros(2, 2, 3)
    logits[0, 0, 1] = logits[1, 0, 2] = logits[1, 1, 2] = 1.0
    assert class_accuracy(logits, torch.tensor([1, 2])).item() == 0.75


@pytest.mark.parametrize("self_pairs", [False, True])
@pytest.mark.parametrize(("people", "sequences"), [(4, 2), (8, 8)])
def test_triplet_loss_equals_pytorch_metric_learning_by_part(people, sequences, self_pairs):
    """It mines no pair of a sequence with itself: with them it is given those triplets by hand."""
    pytest.importorskip("pytorch_metric_learning", reason="needs pytorch-metric-learning")
    from pytorch_metric_learning import distances, losses, reducers

    distance = distances.LpDistance(normalize_embeddings=False, p=2, power=1)
    reducer = reducers.AvgNonZeroReducer()
    one_part = losses.TripletMarginLoss(margin=MARGIN, distance=distance, reducer=reducer)
    n, p = people * sequences, 5
    x = embedding(n, p, 16, seed=3, scale=0.1).requires_grad_()
    labels = torch.arange(people).repeat_interleave(sequences)
    mined = None
    if self_pairs:
        same = labels[:, None] == labels
        pairs = same[:, :, None] & ~same[:, None]  # [anchor, positive, negative]
        mined = pairs.nonzero(as_tuple=True)
    looped = torch.stack([one_part(x[:, part], labels, mined) for part in range(p)]).mean()
    result = triplet_loss(x, labels, self_pairs=self_pairs).loss
    assert result.item() > 0.01
    assert result.item() == pytest.approx(looped.item(), abs=1e-5)
    ours, theirs = (torch.autograd.grad(loss, x)[0] for loss in (result, looped))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
