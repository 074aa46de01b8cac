"""Walker of the synthetic street: path, clothes, and how they are drawn into the picture.

The outline is that of `walkers`, rendered for the path and this camera; colours are painted on it
by height (hair, skin, jacket, trousers, shoes), a bag where it adds to the outline.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from cstl_edge.arrays import Array, Bytes, Image
from cstl_edge.live.boxes import overlap_slices
from cstl_edge.live.sources.synthetic.scene import CAMERA_HEIGHT_M, PinholeCamera
from cstl_edge.silhouette import FOREGROUND
from cstl_edge.walkers import generate

PELVIS_M = 0.95
NEAR_M, FAR_M = 2.4, 13.4  # a path ends here, at the house, if it does not leave the picture before
MARGIN_M = 0.7  # beside the picture, where nothing of a walker is seen
SHADOW_STRENGTH = 0.28
SHADOW_SLANT = (0.55, 0.7)  # metres to the right and away from the camera, per metre of height
MIN_CONTRAST = 42.0  # grey levels between a garment and what is behind it, on average
GARMENTS = np.array([
    [38, 34, 32], [92, 58, 34], [48, 44, 120], [58, 92, 50], [225, 222, 218],
    [70, 120, 190], [120, 52, 88], [60, 62, 66], [40, 70, 105], [52, 150, 205],
], np.float32)  # BGR  # fmt: skip
SKINS = np.array([[165, 190, 225], [130, 160, 205], [85, 115, 160], [55, 75, 105]], np.float32)
HAIRS = np.array([[30, 32, 38], [45, 65, 95], [90, 130, 165], [120, 122, 125]], np.float32)
HAIR_END, SKIN_END, TOP_END, SHOES_START = 0.055, 0.135, 0.50, 0.945  # shares of the height


@dataclass(frozen=True)
class WalkerSpec:
    """Specification of a walker of the street.

    person_seed: of the person (`walkers.person`); session: seed of the day's pace, clothes and bag
    condition: nm, bg or cl; view_deg: 0 towards the camera, 90 with the left side to it (leftwards
    in the picture), 180 away, 270 rightwards; start_s: when they enter, None for a free moment
    distance_m: from the camera on the way; offset_m: how far to the right of its axis that is
    turns_at: share of the way, 0..1, after which they turn back, None for those who do not
    stands_at, stands_s: share of the way at which they stand still, and for how long
    """

    person_seed: int
    name: str | None = None
    condition: str = "nm"
    session: int = 0
    view_deg: float = 90.0
    start_s: float | None = None
    distance_m: float = 7.0
    offset_m: float = 0.0
    turns_at: float | None = None
    stands_at: float = 0.5
    stands_s: float = 0.0


@dataclass(frozen=True)
class Drawing:
    """Outline of one walker in one frame, and the place of its top left corner."""

    alpha: Bytes  # [h, w]
    bag: Bytes | None  # [h, w], the part of it that is a bag
    left: int
    top: int
    z_m: float

    @property
    def area(self) -> int:
        """Pixels of the whole outline, seen or not."""
        return max(1, int(np.count_nonzero(self.alpha >= FOREGROUND)))

    def mark(self, labels: Bytes, label: int) -> None:
        """Write `label` wherever the outline lies in a picture of labels, in place."""
        target, source = overlap_slices(self.left, self.top, self.alpha.shape, labels.shape)
        labels[target][self.alpha[source] >= FOREGROUND] = label


class Leg:
    """Straight part of a path; its outlines are rendered at the first frame that shows them."""

    def __init__(
        self, spec: WalkerSpec, camera: PinholeCamera, fps: float, ends_m: tuple[float, float]
    ) -> None:
        """Plan the leg.

        Args:
            spec: Person and line of the path.
            camera: Of the street.
            fps: Frames per second.
            ends_m: Where on the line it begins and ends; backwards where the second is less.
        """
        turn = math.radians(spec.view_deg)
        line = -math.sin(turn), -math.cos(turn)  # x, z per metre of the line
        sense = 1.0 if ends_m[1] >= ends_m[0] else -1.0
        middle_m = sum(ends_m) / 2
        self._heading = sense * line[0], sense * line[1]
        self._middle = spec.offset_m + line[0] * middle_m, spec.distance_m + line[1] * middle_m
        self._person = generate.person(spec.person_seed)
        z_m = self._middle[1]
        self.recording = generate.recording(
            spec.session,
            spec.condition,
            spec.view_deg if sense > 0 else (spec.view_deg + 180) % 360,
            fps=fps,
            height_px=max(24, round(camera.focal_px * generate.body_height_m(self._person) / z_m)),
            distance_m=z_m,
            elevation_deg=math.degrees(math.atan((CAMERA_HEIGHT_M - PELVIS_M) / z_m)),
            azimuth_deg=0.0,
            roll_deg=0.0,
            drop_rate=0.0,
            noise=0.0,
        )
        step_m = generate.speed_mps(self._person, self.recording) / fps
        self.frames = max(1, math.ceil(abs(ends_m[1] - ends_m[0]) / step_m))

    @cached_property
    def outlines(self) -> list[tuple[generate.Sprite, Bytes | None]]:
        """The outline in each frame of the leg, and the part of it that is a bag (2 ms each)."""
        sprites = generate.sprites(self._person, self.recording, self.frames)
        if not self.recording.bag:
            return [(sprite, None) for sprite in sprites]
        bare = generate.sprites(self._person, replace(self.recording, bag=""), self.frames)
        return [(sprite, _bag(sprite, body)) for sprite, body in zip(sprites, bare, strict=True)]

    def place(self, travel_m: float) -> tuple[float, float]:
        """Return where the walker is, x and z in metres; travel_m: 0 in the middle of the leg."""
        (x_m, z_m), (right, away) = self._middle, self._heading
        return x_m + right * travel_m, z_m + away * travel_m


class Actor:
    """A walker with a path."""

    def __init__(
        self, spec: WalkerSpec, camera: PinholeCamera, fps: float, backdrop: Image
    ) -> None:
        """Plan the path and choose the clothes.

        Args:
            spec: Person, way and time.
            camera: Of the street.
            fps: Frames per second.
            backdrop: Picture of the empty street, from which clothes must differ.
        """
        self.spec, self._camera = spec, camera
        self._height_m = generate.body_height_m(generate.person(spec.person_seed))
        begin_m, end_m = self._ends()
        if spec.turns_at is not None:
            end_m = begin_m + spec.turns_at * (end_m - begin_m)
        self._legs = [Leg(spec, camera, fps, (begin_m, end_m))]
        if spec.turns_at is not None:
            self._legs.append(Leg(spec, camera, fps, (end_m, begin_m)))
        self.recording = self._legs[0].recording
        self._stand = round(spec.stands_at * (self._legs[0].frames - 1))
        self._stand_frames = round(spec.stands_s * fps)
        self.frames = sum(leg.frames for leg in self._legs) + self._stand_frames
        self.first_index = 0 if spec.start_s is None else round(spec.start_s * fps)
        self._dress(backdrop)

    def at(self, index: int) -> Drawing | None:
        """Return the walker as seen at a frame of the scene, None outside their time."""
        frame = index - self.first_index
        if not 0 <= frame < self.frames:
            return None
        if frame > self._stand:
            frame = max(self._stand, frame - self._stand_frames)
        leg = self._legs[0]
        if frame >= leg.frames:
            leg, frame = self._legs[1], frame - leg.frames
        sprite, bag = leg.outlines[frame]
        x_m, z_m = leg.place(sprite.travel_m)
        height = max(8, round(self._camera.focal_px * self._height_m / z_m))
        scale = height / sprite.mask.shape[0]
        width = max(3, round(sprite.mask.shape[1] * scale))
        left = round(self._camera.column(x_m, z_m) - sprite.anchor_px * scale)
        top = round(self._camera.floor_row(z_m)) - height
        alpha = _resized(sprite.mask, width, height)
        return Drawing(alpha, None if bag is None else _resized(bag, width, height), left, top, z_m)

    def render(self) -> None:
        """Render all outlines now (about 2 ms per frame)."""
        for leg in self._legs:
            _ = leg.outlines

    def paint(self, drawing: Drawing, canvas: Image) -> None:
        """Draw the walker onto the picture, in place."""
        shape = drawing.alpha.shape
        target, source = overlap_slices(drawing.left, drawing.top, shape, canvas.shape)
        colour = cv2.resize(self._cloth, shape[::-1], interpolation=cv2.INTER_LINEAR)
        if drawing.bag is not None:
            share = (drawing.bag.astype(np.float32) / 255.0)[..., None]
            colour = colour * (1 - share) + self._bag_colour * share
        edge = cv2.blur(drawing.alpha, (9, 9)).astype(np.float32) / 255.0
        colour = colour * (0.72 + 0.28 * edge)[..., None]  # rounder towards the outline
        alpha = drawing.alpha[source].astype(np.float32)[..., None] / 255.0
        blended = canvas[target] + (colour[source] - canvas[target]) * alpha
        canvas[target] = np.clip(blended, 0, 255)

    def shade(self, drawing: Drawing, canvas: Image) -> None:
        """Darken the ground where the walker's shadow falls, in place."""
        height, width = drawing.alpha.shape
        right, up = SHADOW_SLANT[0], SHADOW_SLANT[1] * CAMERA_HEIGHT_M / drawing.z_m
        out_w, out_h = width + math.ceil(right * height) + 8, math.ceil(up * height) + 8
        warp = np.array([[1, -right, right * height + 2], [0, up, 4.0]], dtype=np.float32)
        fallen = cv2.warpAffine(drawing.alpha, warp, (out_w, out_h))
        fallen = cv2.GaussianBlur(fallen, (0, 0), 2.0)
        top = drawing.top + height - out_h + 4
        target, source = overlap_slices(drawing.left - 2, top, fallen.shape, canvas.shape)
        dark = 1.0 - SHADOW_STRENGTH / 255.0 * fallen[source].astype(np.float32)
        canvas[target] = (canvas[target] * dark[..., None]).astype(np.uint8)

    def _ends(self) -> tuple[float, float]:
        """Return where on the path, in metres from its middle, the walker enters and leaves."""
        half = 0.5 * self._camera.size[1] / self._camera.focal_px  # of the picture, per metre of z
        along, turn = np.arange(-40.0, 40.0, 0.05), math.radians(self.spec.view_deg)
        x_m = self.spec.offset_m - math.sin(turn) * along
        z_m = self.spec.distance_m - math.cos(turn) * along
        seen = (np.abs(x_m) < half * z_m + MARGIN_M) & (z_m > NEAR_M) & (z_m < FAR_M)
        if not seen.any():
            raise ValueError(f"expected a path through the picture, got {self.spec}")
        return float(along[seen][0]), float(along[seen][-1])

    def _dress(self, backdrop: Image) -> None:
        """Choose clothes that stand out from the backdrop: colours [256, 48, 3]."""
        rng = np.random.default_rng([self.spec.person_seed, self.spec.session, 77])
        foot = float(self._camera.floor_row(self.spec.distance_m))
        tall = self._camera.focal_px * self._height_m / self.spec.distance_m
        top, bottom = (
            _garment(rng, _band(backdrop, foot - tall * (1 - a), foot - tall * (1 - b)))
            for a, b in ((SKIN_END, TOP_END), (TOP_END, SHOES_START))
        )
        coat = 0.08 + 0.2 * self.recording.coat_hem if self.spec.condition == "cl" else 0.0
        hair, skin = HAIRS[rng.integers(len(HAIRS))], SKINS[rng.integers(len(SKINS))]
        share = np.linspace(0, 1, 256)[:, None]
        ends = [share < end for end in (HAIR_END, SKIN_END, TOP_END + coat, SHOES_START)]
        rows = np.select(ends, [hair, skin, top, bottom], GARMENTS[0] + 12)  # [256, 3]
        lit = np.linspace(1.10, 0.86, 48)[None, :, None]  # the sun stands to the left
        folds = cv2.GaussianBlur(rng.normal(0, 26, (256, 48)).astype(np.float32), (0, 0), 2.2)
        self._cloth: Array = (rows[:, None] * lit + folds[..., None]).astype(np.float32)
        self._bag_colour: Array = GARMENTS[rng.integers(len(GARMENTS))] * np.float32(0.8)


def _garment(rng: np.random.Generator, behind: Array) -> Array:
    """Draw a colour; one that would hide its wearer is drawn again."""
    grey = np.array([0.114, 0.587, 0.299])
    colours = GARMENTS[rng.permutation(len(GARMENTS))] + rng.normal(0, 6, 3)
    contrast = np.abs((colours - behind) @ grey)
    chosen: Array = colours[int(np.argmax(contrast >= MIN_CONTRAST))]
    return chosen


def _band(backdrop: Image, top: float, bottom: float) -> Array:
    """Return the mean colour of some rows of the picture, [3]."""
    first = int(np.clip(top, 0, backdrop.shape[0] - 1))
    last = int(np.clip(bottom, first + 1, backdrop.shape[0]))
    mean: Array = backdrop[first:last].mean((0, 1))
    return mean


def _bag(sprite: generate.Sprite, body: generate.Sprite) -> Bytes:
    """Return the part of the outline that a bag adds, [h, w] of `sprite`."""
    mask = sprite.mask
    plain = np.zeros_like(mask)
    left, top = round(sprite.anchor_px - body.anchor_px), mask.shape[0] - body.mask.shape[0]
    target, source = overlap_slices(left, top, body.mask.shape, mask.shape)
    plain[target] = body.mask[source]
    added = cv2.bitwise_and(mask, cv2.bitwise_not(plain))
    added[: round(SKIN_END * mask.shape[0])] = 0  # heads nod, bags hang lower
    opened = cv2.morphologyEx(added, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    return np.asarray(opened, dtype=np.uint8)


def _resized(mask: Bytes, width: int, height: int) -> Bytes:
    """Return a mask at another size, with soft edges."""
    small = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (3, 3), 0.6), dtype=np.uint8)
