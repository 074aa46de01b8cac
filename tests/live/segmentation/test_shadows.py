"""Cast shadows are found from any side, thin, hard, soft and deep; clothes stay people."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cstl_edge.live.segmentation.shadows import _between, _Runs, shadow_mask

RNG = np.random.default_rng(3)
H, W = 240, 320
FOOT, HEIGHT, MIDDLE = 190, 110, 160  # of the person: row, pixels, column
BODY = np.zeros((H, W), np.uint8)
cv2.ellipse(BODY, (MIDDLE, FOOT - 98), (9, 12), 0, 0, 360, 255, cv2.FILLED)
cv2.rectangle(BODY, (MIDDLE - 15, FOOT - 88), (MIDDLE + 15, FOOT - 52), 255, cv2.FILLED)
for foot in (-22, 22):  # legs apart
    corners = [(MIDDLE - 6, FOOT - 55), (MIDDLE + 6, FOOT - 55), (MIDDLE + foot, FOOT)]
    cv2.fillPoly(BODY, [np.array([*corners, (MIDDLE + foot - 9, FOOT)])], 255)
SKIN, WHITE, BLACK = (185, 145, 115), (232, 128, 128), (25, 128, 128)


def street(texture: float) -> np.ndarray:
    """Return an empty scene, YCrCb: a wall above, a floor below."""
    scene = np.full((H, W, 3), (150, 128, 128), np.float32)
    scene[: FOOT - 60] = (165, 136, 118)
    blotches = cv2.GaussianBlur(RNG.normal(0, 1, (H, W)).astype(np.float32), (0, 0), 1.5)
    scene[..., 0] += texture * blotches / blotches.std()
    return scene


def light(slant: tuple[float, float], strength: float, soft: float, blue: float) -> np.ndarray:
    """Return the factor of the light [h, w, 3] under a shadow; blue: of chroma, in grey levels."""
    right, up = slant
    warp = np.array([[1, -right, right * FOOT], [0, up, FOOT - up * FOOT]], np.float32)
    fallen = cv2.warpAffine(BODY, warp, (W, H)).astype(np.float32) / 255
    fallen = cv2.GaussianBlur(fallen, (0, 0), soft)
    fallen[: FOOT - 60] = 0  # the wall is far behind
    return np.stack([1 - strength * fallen, -blue * fallen, blue * fallen], axis=-1)


def picture(scene: np.ndarray, shade: np.ndarray, top: tuple, trousers: tuple) -> np.ndarray:
    """Return the scene with a shadow and somebody in front of it, YCrCb with noise."""
    image = scene.copy()
    image[..., 0] *= shade[..., 0]
    image[..., 1:] = 128 + (image[..., 1:] - 128) * shade[..., :1] + shade[..., 1:]
    rows = np.arange(H)[:, None]
    parts = [(BODY > 0) & (rows < FOOT - 88), (BODY > 0) & (rows >= FOOT - 88) & (rows < FOOT - 52)]
    parts += [(BODY > 0) & (rows >= FOOT - 52), (BODY > 0) & (rows >= FOOT - 6)]
    for part, colour in zip(parts, (SKIN, top, trousers, BLACK), strict=True):
        image[part] = colour
    noisy = image + RNG.normal(0, (2, 1, 1), image.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def shares(image: np.ndarray, scene: np.ndarray, shade: np.ndarray) -> tuple[float, float]:
    """Return which share of the shadow is found, and of the body is lost."""
    background = scene.clip(0, 255).astype(np.uint8)
    difference = cv2.absdiff(image, background)
    weak = np.where((difference > (14, 8, 8)).any(axis=2), 255, 0).astype(np.uint8)
    shadow = shadow_mask(image, background, weak) > 0
    fallen = (weak > 0) & (cv2.dilate(BODY, np.ones((5, 5))) == 0)
    assert fallen.sum() > 100
    return shadow[fallen].mean(), shadow[BODY > 0].mean()


@pytest.mark.parametrize("texture", [0.0, 6.0])
@pytest.mark.parametrize(
    ("slant", "strength", "soft", "blue"),
    [
        ((0.8, 0.35), 0.28, 1.5, 0),  # like the streets
        ((-0.9, 0.3), 0.35, 0.5, 0),  # the sun from the other side, hard
        ((1.2, 0.3), 0.35, 4.0, 0),  # a lamp: soft
        ((-0.8, 0.3), 0.55, 0.7, 0),  # deep: strong sun
        ((0.9, 0.35), 0.45, 0.7, 4.0),  # bluish: a clear sky
        ((0.5, -0.25), 0.35, 1.0, 0),  # towards the camera
    ],
)
def test_shadows_are_found_at_their_edges_too(
    texture: float, slant: tuple[float, float], strength: float, soft: float, blue: float
) -> None:
    scene, shade = street(texture), light(slant, strength, soft, blue)
    found, lost = shares(picture(scene, shade, WHITE, (60, 118, 140)), scene, shade)
    assert found > 0.65
    assert lost < 0.02


def test_two_lamps_cast_two_shadows() -> None:
    scene, one, other = street(6.0), light((0.9, 0.3), 0.3, 2.0, 0), light((-0.9, 0.3), 0.3, 2.0, 0)
    both = np.dstack([one[..., 0] * other[..., 0], one[..., 1:] + other[..., 1:]])
    found, lost = shares(picture(scene, both, WHITE, (60, 118, 140)), scene, both)
    assert found > 0.65
    assert lost < 0.02


@pytest.mark.parametrize("trousers", [(60, 128, 128), (90, 128, 128), (110, 127, 129), WHITE])
@pytest.mark.parametrize("top", [WHITE, BLACK, (70, 150, 110)])
def test_clothes_as_dark_as_a_shadow_stay_people(top: tuple, trousers: tuple) -> None:
    scene, shade = street(6.0), light((0.9, 0.3), 0.35, 1.0, 0)
    found, lost = shares(picture(scene, shade, top, trousers), scene, shade)
    assert found > 0.6
    assert lost < 0.06


def test_a_large_shadow_keeps_the_texture_and_a_coat_does_not() -> None:
    scene = np.full((180, 240, 3), (120, 128, 128), np.uint8)
    scene[:, ::4, 0] = 150  # a fence
    frame, weak = scene.copy(), np.zeros(scene.shape[:2], np.uint8)
    frame[10:80, 10:110, 0] = (scene[10:80, 10:110, 0] * 0.7).astype(np.uint8)
    frame[95:175, 130:230] = (90, 128, 128)  # smooth, as dark as a shadow
    weak[10:80, 10:110] = weak[95:175, 130:230] = 255
    shadow = shadow_mask(frame, scene, weak) > 0
    assert shadow[10:80, 10:110].mean() > 0.95
    assert shadow[95:175, 130:230].mean() < 0.05


def test_no_foreground_has_no_shadow() -> None:
    scene = street(6.0).clip(0, 255).astype(np.uint8)
    assert not shadow_mask(scene, scene, np.zeros((H, W), np.uint8)).any()


def test_runs_are_those_of_a_walk_along_each_row() -> None:
    mask = np.where(RNG.random((20, 30)) < 0.6, 255, 0).astype(np.uint8)
    other = np.where(RNG.random((20, 30)) < 0.2, 255, 0).astype(np.uint8)
    runs = _Runs.of(mask)
    lengths, contained = runs.painted(runs.lengths), runs.painted(runs.contain(other) * 1)
    between = _between(mask.T, other.T).T
    for row in range(20):
        for column in range(30):
            if not mask[row, column]:
                assert lengths[row, column] == contained[row, column] == between[row, column] == 0
                continue
            first = end = column
            while first > 0 and mask[row, first - 1]:
                first -= 1
            while end < 30 and mask[row, end]:
                end += 1
            solid = np.flatnonzero(other[row, first:end]) + first
            assert lengths[row, column] == end - first
            assert contained[row, column] == (len(solid) > 0)
            strictly = len(solid) > 0 and solid[0] < column < solid[-1]
            assert (between[row, column] > 0) == strictly or column in solid
