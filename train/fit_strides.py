"""Fit the walk basis of clothed Walkers (`walk_basis.npz`) to recorded strides of real people.

A stride becomes Fourier coefficients of the directions of body segments; the basis is the mean and
the principal components between people, how much one person varies along each, and what no
component explains. Six people stay out of it: their own mean coefficients are stored for the
shifted test set alone. Marker conventions of the two sources are taken out: knee and ankle markers
of the C3D study sit on the outer side, and the mean posture of each source is replaced by that of
all. Letters: `n` strides, `k` segments.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cstl_edge.walkers.clothed.walk import HARMONICS, SEGMENTS

Doubles = NDArray[np.float64]
SHIFTED = ("cmu_02", "cmu_43", "cmu_49", "bzoo_HC030A", "bzoo_HC044A", "bzoo_HC055A")
COMPONENTS = 16
LATERAL_M = {"knee": 0.055, "ankle": 0.035}  # from the C3D study's markers to the joints
STANCE_PHASES = slice(6, 20)  # of 64, where the left foot is flat
TO_BODY = (1, 2, 0)  # x forward, y left, z up → x left, y up, z forward


def aligned_strides(stored: Any) -> Doubles:
    """Return joint positions [n, 64, 18, 3]; each begins when the left ankle is foremost."""
    names = stored["joints"].tolist()
    points = stored["pos"].astype(np.float64)[..., TO_BODY]
    markers = np.array([s.startswith("bzoo") for s in stored["subject"].tolist()])
    for joint, inward in LATERAL_M.items():
        for side, sign in (("l", -1), ("r", 1)):
            points[markers, :, names.index(side + joint), 0] += sign * inward
    apart = points[:, :, names.index("lankle"), 2] - points[:, :, names.index("rankle"), 2]
    first = np.fft.rfft(apart, axis=1)[:, 1]
    shift = np.round(-np.angle(first) / (2 * np.pi) * points.shape[1]).astype(int)
    return np.stack([np.roll(p, -s, axis=0) for p, s in zip(points, shift, strict=True)])


def coefficients(points: Doubles, names: list[str]) -> Doubles:
    """Return Fourier coefficients [n, k + 1, 11, 3] of segment directions and of the sway."""
    directions = []
    for start, end in SEGMENTS.values():
        line = points[:, :, names.index(end)] - points[:, :, names.index(start)]
        directions.append(line / np.linalg.norm(line, axis=-1, keepdims=True))
    sway = points[:, :, names.index("pelvis")] * (1.0, 0.0, 0.0)
    signal = np.stack([*directions, sway - sway.mean(1, keepdims=True)], 1)  # [n, k+1, 64, 3]
    spectrum = np.fft.rfft(signal, axis=2)[:, :, : HARMONICS + 1] / signal.shape[2]
    out = np.zeros((*signal.shape[:2], 2 * HARMONICS + 1, 3))
    out[:, :, 0] = spectrum[:, :, 0].real
    out[:, :, 1::2] = 2 * spectrum[:, :, 1:].real
    out[:, :, 2::2] = -2 * spectrum[:, :, 1:].imag
    return out


def one_posture(coeffs: Doubles, source: NDArray[Any], weight: Doubles) -> None:
    """Replace the mean of the constant terms of each source by that of the joint centres."""
    means = {s: np.average(coeffs[source == s, :, 0], 0, weight[source == s]) for s in set(source)}
    for name in means:
        coeffs[source == name, :, 0] += means["cmu"] - means[name]


def fit(stored: Any) -> dict[str, Any]:
    """Return the arrays of the basis."""
    subject = stored["subject"]
    coeffs = coefficients(aligned_strides(stored), stored["joints"].tolist())
    shape = coeffs.shape[1:]
    count = {s: int((subject == s).sum()) for s in set(subject.tolist())}
    weight = np.array([1 / count[s] for s in subject.tolist()])
    source = np.array([s.split("_")[0] for s in subject.tolist()])
    one_posture(coeffs, source, weight)
    rows = np.hstack([coeffs.reshape(len(coeffs), -1), np.log(stored["stride_s"])[:, None]])
    people = [s for s in sorted(count) if s not in SHIFTED]
    means = np.stack([rows[subject == s].mean(0) for s in people])
    centre = means.mean(0)
    _, single, axes = np.linalg.svd(means - centre, full_matrices=False)
    axes, single = axes[:COMPONENTS], single[:COMPONENTS]
    inside = np.concatenate([rows[subject == s] - rows[subject == s].mean(0) for s in people])
    share = np.concatenate([np.full(count[s], 1 / (count[s] - 1)) for s in people]) / len(people)
    along = inside @ axes.T
    rest = inside - along @ axes
    explained = (single**2).sum() / ((means - centre) ** 2).sum()
    print(f"{len(people)} people, {len(inside)} strides, {explained:.1%} between them explained")
    parts = {
        "mean": centre[:-1].reshape(shape),
        "components": axes[:, :-1].reshape(COMPONENTS, *shape),
        "between_std": single / np.sqrt(len(people) - 1),
        "within_std": np.sqrt((share[:, None] * along**2).sum(0)),
        "rest_std": np.sqrt((share[:, None] * rest**2).sum(0))[:-1].reshape(shape),
        "stride_s_log": np.array([centre[-1], *axes[:, -1]]),
        "shifted": np.stack([rows[subject == s].mean(0)[:-1].reshape(shape) for s in SHIFTED]),
        "shifted_stride_s_log": np.array([rows[subject == s, -1].mean() for s in SHIFTED]),
    }
    return {name: part.astype(np.float16) for name, part in parts.items()}


def main(argv: list[str] | None = None) -> int:
    """Read the strides, write the basis."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("strides", type=Path, help="strides.npz: pos, subject, joints, stride_s")
    parser.add_argument("--out", type=Path, default=Path("cstl_edge/assets/walk_basis.npz"))
    args = parser.parse_args(argv)
    with np.load(args.strides, allow_pickle=False) as stored:
        arrays = fit({key: stored[key] for key in stored.files})
    np.savez_compressed(args.out, **arrays)
    print(f"{args.out}: {args.out.stat().st_size / 1024:.0f} KiB", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
