"""Every equation of the paper (1 to 7, 9, 10) against plain float64 loops, written from its text.

The loops use the paper's indices: b sequence, n frame, k part, c channel. P[b][n][k] is a list over
c. Weights are read out of the network as nested lists; nothing else of it is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain
from typing import Any

import pytest
import torch
from tiny_cstl import network
from torch import Tensor

from cstl_edge.model import Cstl
from cstl_edge.model.temporal import PartNorm, running_sums

B, N, K, C = 2, 5, 2, 32
SCALES = ("frame", "short", "long")
Vector = list[float]
Features = list[list[list[Vector]]]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def fc(matrix: list[Vector], x: Vector) -> Vector:
    return [math.fsum(w * v for w, v in zip(row, x, strict=True)) for row in matrix]


def relu(x: Vector) -> Vector:
    return [max(v, 0.0) for v in x]


def added(*vectors: Vector) -> Vector:
    return [math.fsum(values) for values in zip(*vectors, strict=True)]


def joined(vectors: Iterable[list[Any]]) -> list[Any]:
    return list(chain.from_iterable(vectors))


def each(function: Any) -> Features:
    return [[[function(b, n, k) for k in range(K)] for n in range(N)] for b in range(B)]


def batch_norm(norm: PartNorm, k: int, x: Vector) -> Vector:
    mean, var = norm.running_mean[k].tolist(), norm.running_var[k].tolist()
    gamma, beta = norm.weight[k].tolist(), norm.bias[k].tolist()
    return [
        g * (v - m) / math.sqrt(q + 1e-5) + b
        for v, m, q, g, b in zip(x, mean, var, gamma, beta, strict=True)
    ]


def concatenated(layers: Any, k: int) -> list[Vector]:
    """The matrix [outputs][3c] of part k, from the blocks kept per scale."""
    blocks = [layers[name].weight[k].tolist() for name in SCALES]
    return [joined(rows) for rows in zip(*blocks, strict=True)]


def short_term(net: Cstl, p: Features) -> Features:
    """T_s (section 3.2): two serial convolutions, each with its norm, outputs added."""

    def conv(layer: int, x: Features) -> Features:
        def at(b: int, n: int, k: int) -> Vector:
            window = [x[b][t][k] if 0 <= t < N else [0.0] * C for t in (n - 1, n, n + 1)]
            matrix = net.short.convs[layer].weight[k].tolist()
            return batch_norm(net.short.norms[layer], k, fc(matrix, joined(window)))

        return each(at)

    first = conv(0, p)
    second = conv(1, first)
    return each(lambda b, n, k: added(first[b][n][k], second[b][n][k]))


def long_term(net: Cstl, p: Features) -> list[list[Vector]]:
    """Eq. 1, [b][k][c]."""

    def importance(b: int, n: int, k: int) -> Vector:
        hidden = relu(fc(net.long.first.weight[k].tolist(), p[b][n][k]))
        return [sigmoid(v) for v in fc(net.long.second.weight[k].tolist(), hidden)]

    w = each(importance)
    return [
        [
            [
                math.fsum(w[b][n][k][c] * p[b][n][k][c] for n in range(N))
                / math.fsum(w[b][n][k][c] for n in range(N))
                for c in range(C)
            ]
            for k in range(K)
        ]
        for b in range(B)
    ]


def multi_scale(net: Cstl, p: Features) -> tuple[Features, Features, Features]:
    long = long_term(net, p)
    return p, short_term(net, p), each(lambda b, n, k: long[b][k])


def aggregate(net: Cstl, f: Features, s: Features, l: Features) -> list[list[Vector]]:  # noqa: E741
    """Eq. 2 to 5, T as [b][k][c]."""
    scales = (  # Eq. 2
        f,
        each(lambda b, n, k: added(f[b][n][k], s[b][n][k])),
        each(lambda b, n, k: added(f[b][n][k], s[b][n][k], l[b][n][k])),
    )

    def weights(b: int, n: int, k: int) -> list[Vector]:  # Eq. 3, [scale][c]
        context = joined(scale[b][n][k] for scale in scales)
        hidden = fc(concatenated(net.aggregation.first, k), context)
        second = (net.aggregation.second[name].weight[k].tolist() for name in SCALES)
        return [[sigmoid(v) for v in fc(matrix, hidden)] for matrix in second]

    w = each(weights)

    def entry(b: int, k: int, c: int) -> float:
        attentive = [  # Eq. 4
            math.fsum(scales[i][b][n][k][c] * w[b][n][k][i][c] for i in range(3)) for n in range(N)
        ]
        return math.fsum(attentive) / math.fsum(  # Eq. 5
            w[b][n][k][i][c] for n in range(N) for i in range(3)
        )

    return [[[entry(b, k, c) for c in range(C)] for k in range(K)] for b in range(B)]


def part_scores(net: Cstl, f: Features, s: Features, l: Features) -> Any:  # noqa: E741
    """P_s of Eq. 6, [b][n][k]."""

    def score(b: int, n: int, k: int) -> float:
        hidden = relu(fc(concatenated(net.scores.first, k), f[b][n][k] + s[b][n][k] + l[b][n][k]))
        return sigmoid(fc(net.scores.second.weight[k].tolist(), hidden)[0])

    return each(score)


def paper_network(net: Cstl, p: Features) -> tuple[list[list[Vector]], list[list[int]]]:
    """From P to the embedding [b][k][d] and x_b^k."""
    f, s, l = multi_scale(net, p)  # noqa: E741
    t, scores = aggregate(net, f, s, l), part_scores(net, f, s, l)
    frames = [  # Eq. 9
        [max(range(N), key=lambda n, b=b, k=k: scores[b][n][k]) for k in range(K)] for b in range(B)
    ]
    embedding = [
        [
            fc(net.embed.weight[k].tolist(), f[b][frames[b][k]][k] + t[b][k])  # Eq. 10, O = [S; T]
            for k in range(K)
        ]
        for b in range(B)
    ]
    return embedding, frames


@pytest.fixture(scope="module")
def net() -> Cstl:
    return network(7, parts=K, widths=(2, 3, 4, C), classes=3, scales=SCALES).double()


@pytest.fixture(scope="module")
def features() -> Tensor:
    return torch.rand(B, N, K, C, dtype=torch.float64, generator=torch.manual_seed(8)) * 3


@pytest.fixture(scope="module")
def x(features: Tensor) -> Tensor:
    return features.permute(2, 3, 0, 1)  # [p, c, n, s]


def close(actual: Tensor, expected: Any, layout: tuple[int, ...]) -> None:
    """Compare a network's tensor, permuted to the paper's order, with nested lists."""
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.detach().permute(layout), wanted, rtol=1e-10, atol=1e-11)


def test_short_term(net: Cstl, features: Tensor, x: Tensor) -> None:
    close(net.short(x, None), short_term(net, features.tolist()), (2, 3, 0, 1))


def test_equation_1(net: Cstl, features: Tensor, x: Tensor) -> None:
    close(net.long(x, None)[..., 0], long_term(net, features.tolist()), (2, 0, 1))


def test_equation_2(net: Cstl, features: Tensor) -> None:
    f, s, l = torch.randn(3, 4).unbind()  # noqa: E741
    sums = running_sums({"frame": f, "short": s, "long": l})
    assert list(sums) == list(SCALES)
    torch.testing.assert_close(list(sums.values()), [f, f + s, f + s + l])


def test_equations_3_to_5(net: Cstl, features: Tensor, x: Tensor) -> None:
    f, s, l = multi_scale(net, features.tolist())  # noqa: E741
    scales = {"frame": x, "short": net.short(x, None), "long": net.long(x, None)}
    actual = net.aggregation(running_sums(scales), None)
    close(actual, aggregate(net, f, s, l), (2, 0, 1))


def test_equation_6(net: Cstl, features: Tensor, x: Tensor) -> None:
    scales = {"frame": x, "short": net.short(x, None), "long": net.long(x, None)}
    logits = net.scores(scales, N)  # [p, n, s]
    expected = part_scores(net, *multi_scale(net, features.tolist()))
    close(torch.sigmoid(logits), expected, (1, 2, 0))


def test_equation_7(net: Cstl, features: Tensor, x: Tensor) -> None:
    scales = {"frame": x, "short": net.short(x, None), "long": net.long(x, None)}
    actual = net.class_head(x, net.scores(scales, N), None)  # [n, p, classes]
    f, s, l = multi_scale(net, features.tolist())  # noqa: E741
    scores = part_scores(net, f, s, l)

    def logits(b: int, k: int) -> Vector:
        whole = math.fsum(scores[b][n][k] for n in range(N))  # Eq. 6, second line
        weighted = [
            math.fsum(f[b][n][k][c] * scores[b][n][k] / whole for n in range(N)) for c in range(C)
        ]
        return fc(net.class_head.weight[k].T.tolist(), batch_norm(net.class_head.norm, k, weighted))

    close(actual, [[logits(b, k) for k in range(K)] for b in range(B)], (0, 1, 2))


def test_equations_9_and_10_and_the_whole_head(net: Cstl, features: Tensor) -> None:
    embedding, frames = net.head(features)
    expected, expected_frames = paper_network(net, features.tolist())
    assert frames is not None
    assert frames.tolist() == expected_frames
    assert len(set(joined(expected_frames))) > 1  # else the test could not tell frames apart
    close(embedding, expected, (0, 1, 2))


def convolve(image: list[list[Vector]], kernel: Any) -> list[list[Vector]]:
    """3x3, stride 1, zero padding, then Leaky ReLU; image [i][y][x], kernel [o][i][3][3]."""
    height, width = len(image[0]), len(image[0][0])

    def at(o: int, y: int, x: int) -> float:
        value = math.fsum(
            kernel[o][i][dy][dx] * image[i][y + dy - 1][x + dx - 1]
            for i in range(len(image))
            for dy in range(3)
            for dx in range(3)
            if 0 <= y + dy - 1 < height and 0 <= x + dx - 1 < width
        )
        return value if value > 0 else 0.01 * value

    return [
        [[at(o, y, x) for x in range(width)] for y in range(height)] for o in range(len(kernel))
    ]


def test_trunk_and_parts(net: Cstl) -> None:
    silhouettes = torch.randint(0, 256, (2, 8, 4), dtype=torch.uint8)
    kernels = [conv.weight.tolist() for conv in net.backbone.convs]
    actual = net.frame_features(silhouettes)
    for m, silhouette in enumerate(silhouettes.tolist()):
        maps = [[[v / 255 for v in row] for row in silhouette]]
        maps = convolve(convolve(maps, kernels[0]), kernels[1])
        maps = [
            [
                [max(q[2 * y + i][2 * x + j] for i in (0, 1) for j in (0, 1)) for x in range(2)]
                for y in range(4)
            ]
            for q in maps
        ]
        maps = convolve(convolve(maps, kernels[2]), kernels[3])  # [c][4 rows][2 columns]
        for k in range(K):
            bands = [q[2 * k] + q[2 * k + 1] for q in maps]
            expected = [max(band) + math.fsum(band) / len(band) for band in bands]
            close(actual[m, k], expected, (0,))
