"""Segmentation noise: turn clean masks into masks with the faults of a real segmenter.

The clean mask is blurred, a noise field is added and a slowly varying threshold applied: soft
blobs, ragged edges and small holes come from these three steps. Events are added in bursts of a few
frames: a foot or an arm is lost, the legs merge, a hole opens, a piece of background sticks to the
outline, a shadow lies on the floor, a strip of the head or the feet is cut. The events of a
recording and their strengths are drawn once per recording. Letters: `s` frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cstl_edge.arrays import Array, Floats, Indices, Mask
from cstl_edge.walkers.person import random_stream
from cstl_edge.walkers.recording import Recording
from cstl_edge.walkers.render import BODY_PX, Footage

NOISE = 6  # purpose of the random numbers, see `person.random_stream`
TEXTURE = 256  # pixels, side of the noise fields
BURST_FRAMES_S = 0.35  # mean duration of a fault
RATES = {  # share of frames at severity 1, in a recording that has the fault
    "arm": 0.10,
    "foot": 0.10,
    "legs": 0.15,
    "hole": 0.10,
    "blob": 0.08,
    "feet_cut": 0.12,
    "head_cut": 0.04,
}
PREVALENCE = 0.5  # share of recordings that have a given fault
SHADOWED = 0.25  # share of recordings with a shadow on the floor
MIN_LEFT = 0.35  # share of the clean area below which a frame stays clean


@dataclass(frozen=True)
class Faults:
    """Drawn faults of one recording, frame by frame."""

    softness: float  # blur, share of the body's height
    threshold: Floats  # [s] of the softened mask, 0..1
    grain: float  # amplitude of the noise field near the outline
    fields: tuple[Floats, Floats]  # coarse and fine noise, tiled
    offsets: Indices  # [s, 2, 2] where each frame reads the fields
    bursts: dict[str, Floats]  # [s] strength 0..1 of each event
    spots: Floats  # [s, 3] a slowly moving place on the body, 0..1, and a size
    side: Indices  # which arm or foot suffers
    shadow: tuple[float, float, float] | None  # slant, length and strength


def draw_faults(recording: Recording, frames: int) -> Faults:
    """Draw the faults of a recording."""
    rng = random_stream(NOISE, recording.seed, round(recording.view_deg * 100) % 36000)
    severity = recording.noise
    base = rng.normal(0.5, 0.05 * min(severity, 2.0))
    threshold = np.clip(base + 0.04 * severity * _wander(rng, frames, 1)[:, 0], 0.25, 0.75)
    bursts = {
        name: _bursts(rng, frames, recording.fps, rate * severity * (rng.random() < PREVALENCE))
        for name, rate in RATES.items()
    }
    still = rng.integers(0, TEXTURE // 2, (1, 2, 2))
    drift = np.cumsum(rng.normal(size=(frames, 2, 2)) * 6, 0) + rng.integers(0, 9, (frames, 2, 2))
    shadow = None
    if severity > 0 and rng.random() < SHADOWED:
        shadow = tuple(rng.uniform((-1.6, 0.08, 0.3), (1.6, 0.3, 0.9)).tolist())
    return Faults(
        softness=float(severity * rng.uniform(0.002, 0.014)),
        threshold=threshold.astype(np.float32),
        grain=float(severity * rng.uniform(0.03, 0.16)),
        fields=(_field(rng, 20), _field(rng, 80)),
        offsets=(still + drift).astype(np.int64) % (TEXTURE // 2),
        bursts=bursts,
        spots=np.clip(0.5 + 0.28 * _wander(rng, frames, 3), 0, 1).astype(np.float32),
        side=rng.integers(0, 2, 2),
        shadow=shadow,
    )


def apply_faults(clean: Mask, footage: Footage, faults: Faults, frame: int) -> Mask:
    """Return one frame with its faults, uint8 [h, w] 0/255.

    Args:
        clean: Mask [h, w] of the frame at any scale.
        footage: The recording; its marks say where arms and feet are.
        faults: Faults of the recording.
        frame: Number of the frame, 0-based.
    """
    binary: Mask = (clean > 127) * np.uint8(255)
    if faults.grain == 0:
        return binary
    height = clean.shape[0]
    size = height / footage.masks.shape[1]  # pixels per raster pixel
    body = BODY_PX * size
    mask = _remove(clean.copy(), footage.marks[frame] * size, body, faults, frame)
    mask = _add(mask, body, size, faults, frame)
    sigma = 0.4 + faults.softness * body
    soft = cv2.GaussianBlur(mask, (0, 0), sigma)
    level = 255 * (faults.threshold[frame] + faults.grain * _grain(faults, frame, mask.shape))
    mask = _largest((soft > np.clip(level, 40, 200)).astype(np.uint8))
    too_little = int(mask.sum()) < MIN_LEFT * np.count_nonzero(binary)
    return binary if too_little else mask * np.uint8(255)


def _remove(mask: Mask, marks: Floats, body: float, faults: Faults, frame: int) -> Mask:
    """Remove an arm, a foot, a hole, or strips at either end."""
    bursts, spot = faults.bursts, faults.spots[frame]
    for event, first, wide in (("arm", 0, 0.065), ("foot", 2, 0.07)):
        if (strength := bursts[event][frame]) > 0:
            start, end = marks[faults.side[first // 2], first : first + 2]
            start = end + (start - end) * (0.3 + 0.7 * strength)
            width = max(1, round(wide * body))
            cv2.line(mask, _pixel(start), _pixel(end), 0, width)
    _, top, _, tall = cv2.boundingRect(mask)
    bottom = top + tall
    if (strength := bursts["feet_cut"][frame]) > 0:
        mask[max(0, bottom - round((0.02 + 0.09 * strength) * body)) :] = 0
    if (strength := bursts["head_cut"][frame]) > 0:
        mask[: top + round((0.02 + 0.08 * strength) * body)] = 0
    if (strength := bursts["hole"][frame]) > 0:
        place = (mask.shape[1] / 2 + (spot[0] - 0.5) * 0.3 * body, top + spot[1] * body)
        axes = (1 + round(0.05 * body * strength), 1 + round(0.08 * body * spot[2]))
        cv2.ellipse(mask, _pixel(np.array(place)), axes, 0, 0, 360, 0, -1)
    return mask


def _add(mask: Mask, body: float, size: float, faults: Faults, frame: int) -> Mask:
    """Add what does not belong to the body: merged legs, background, a shadow."""
    bursts, spot = faults.bursts, faults.spots[frame]
    if (strength := bursts["legs"][frame]) > 0:
        half = mask.shape[0] // 2
        width = 1 + round(0.16 * body * strength)
        kernel = np.ones((max(1, width // 2), width), np.uint8)
        mask[half:] = cv2.morphologyEx(mask[half:], cv2.MORPH_CLOSE, kernel)
    if (strength := bursts["blob"][frame]) > 0:
        side = 1 if spot[0] > 0.5 else -1
        row = round((0.15 + 0.8 * spot[1]) * (mask.shape[0] - 1))
        line = np.flatnonzero(mask[row])
        if line.size:
            place = np.array([line[-1] if side > 0 else line[0], row])
            axes = (1 + round(0.08 * body * strength), 1 + round(0.07 * body * spot[2]))
            cv2.ellipse(mask, _pixel(place), axes, 0, 0, 360, 255, -1)
    if faults.shadow is not None:
        mask = np.maximum(mask, _shadow(mask, size, faults, frame))
    return mask


def _shadow(mask: Mask, size: float, faults: Faults, frame: int) -> Mask:
    """Return the shadow: the body flattened, slanted and cut short, its length varying in time."""
    assert faults.shadow is not None
    slant, length, strength = faults.shadow
    _, top, _, tall = cv2.boundingRect(mask)
    base = float(top + tall - 1)
    flat = length * (0.6 + 0.8 * float(faults.spots[frame, 2]))
    rows = [[1, slant * 0.5, -slant * 0.5 * base], [0, flat, base * (1 - flat)]]
    laid = cv2.warpAffine(mask, np.array(rows, np.float32), (mask.shape[1], mask.shape[0]))
    middle, reach = mask.shape[1] / 2, (0.12 + 0.3 * strength) * BODY_PX * size
    laid[:, : max(0, round(middle - reach))] = 0
    laid[:, round(middle + reach) :] = 0
    laid[: round(base - 0.04 * BODY_PX * size)] = 0  # only the part at the feet
    return np.asarray(laid, dtype=np.uint8)


def _grain(faults: Faults, frame: int, shape: tuple[int, ...]) -> Floats:
    h, w = min(shape[0], TEXTURE // 2), min(shape[1], TEXTURE // 2)
    (y, x), (j, i) = faults.offsets[frame]
    coarse, fine = faults.fields
    both = coarse[y : y + h, x : x + w] + 0.6 * fine[j : j + h, i : i + w]
    if both.shape == shape:
        return both
    return np.asarray(cv2.resize(both, (shape[1], shape[0])), dtype=np.float32)


def _largest(mask: Mask) -> Mask:
    """Keep the largest connected piece of a 0/1 mask."""
    pieces = cv2.connectedComponentsWithStats(mask, connectivity=4, ltype=cv2.CV_16U)
    count, labels, stats, _ = pieces
    if count <= 2:
        return mask
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return np.asarray(labels == largest, dtype=np.uint8)


def _pixel(place: Array) -> tuple[int, int]:
    return round(float(place[0])), round(float(place[1]))


def _field(rng: np.random.Generator, cells: int) -> Floats:
    """Return a smooth random field [TEXTURE, TEXTURE] of standard deviation one."""
    coarse = rng.normal(size=(cells, cells)).astype(np.float32)
    field = cv2.resize(coarse, (TEXTURE, TEXTURE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field / field.std(), dtype=np.float32)


def _wander(rng: np.random.Generator, frames: int, columns: int) -> Floats:
    """Return unit-variance AR(1) noise [s, columns] that keeps 0.85 of its value per frame."""
    steps = rng.normal(size=(frames, columns))
    steps[1:] *= np.sqrt(1 - 0.85**2)
    for i in range(1, frames):
        steps[i] += 0.85 * steps[i - 1]
    return steps.astype(np.float32)


def _bursts(rng: np.random.Generator, frames: int, fps: float, share: float) -> Floats:
    """Return strengths [s], zero except in bursts that fill about `share` of the frames."""
    share = min(share, 0.6)
    leave = min(1.0, 1.0 / max(1.0, BURST_FRAMES_S * fps))
    enter = leave * share / (1 - share)
    draws, strengths = rng.random(frames), rng.uniform(0.25, 1.0, frames)
    out, on, strength = np.zeros(frames, np.float32), draws[0] < share, strengths[0]
    for i in range(frames):
        if i:
            started = not on and draws[i] < enter
            on = started or (on and draws[i] >= leave)
            strength = strengths[i] if started else strength
        out[i] = strength if on else 0.0
    return out
