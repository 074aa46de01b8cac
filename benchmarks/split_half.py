"""Split-half matching: walks of a few people, each cut in half, the halves matched.

A stand-in for a protocol where a clip is all there is: both halves share view, clothes and camera,
so even a gait energy image does well. Letters: `k` windows, `s` frames, `h w` pixels, `p` parts,
`d` embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from cstl_edge.evaluation.embeddings import part_mean_distance

Silhouettes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Halves = Mapping[str, tuple[Silhouettes, Silhouettes]]  # [s, h, w] each, by person

WINDOW, HOP = 30, 5  # frames


def windows(silhouettes: Silhouettes, window: int = WINDOW, hop: int = HOP) -> Silhouettes:
    """Return windows of up to `window` frames, `hop` apart: [s, h, w] to [k, s, h, w]."""
    length = min(window, len(silhouettes))
    starts = range(0, len(silhouettes) - length + 1, hop)
    return np.stack([silhouettes[i : i + length] for i in starts])


def match_halves(people: Halves, embed: Callable[[Silhouettes], Floats]) -> dict[str, float]:
    """Match windows of everybody's second half with all first halves.

    embed: [k, s, h, w] to [k, p, d]

    Returns `rank1`, the mean over people of the share of windows whose nearest person is the right
    one, and `auc`, how often a window is nearer to its own person than a window to another, 0..1.
    """
    first, second = ([embed(windows(half[i])) for half in people.values()] for i in (0, 1))
    nearest = [
        np.stack([part_mean_distance(probe, entry).min(axis=1) for entry in first], axis=1)
        for probe in second
    ]  # [k, people] by person
    distance = np.concatenate(nearest)
    truth = np.repeat(np.arange(len(second)), [len(probe) for probe in second])
    right = truth[:, None] == np.arange(len(first))[None]
    rank1 = [(rows.argmin(axis=1) == i).mean() for i, rows in enumerate(nearest)]
    auc = np.mean(distance[right][:, None] < distance[~right][None])
    return {"rank1": round(float(np.mean(rank1)), 4), "auc": round(float(auc), 4)}
