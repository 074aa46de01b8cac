"""Training pictures of the small person network: a person in the middle of a square, and a mask.

People are cut out of labelled frames of real clips (`clips`) or drawn as Walkers with clothes and
textures, whose masks are exact; they stand before photographs or drawn backdrops, with neighbours,
who are no part of the mask, shadows, things in front of them, cut by the border, and as a small,
blurred, noisy, compressed picture would show them. Letters: `h w` pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cstl_edge.arrays import Array, Bytes, Floats, Image
from cstl_edge.opencv import import_cv2
from cstl_edge.training.person_mask.clips import LabelledCrop
from cstl_edge.training.person_mask.network import SIDE
from cstl_edge.walkers.clothed.backdrops import FAMILIES, SHIFTED_FAMILIES, backdrop
from cstl_edge.walkers.clothed.film import paint
from cstl_edge.walkers.clothed.footage import take_session
from cstl_edge.walkers.clothed.session import make_session
from cstl_edge.walkers.person import make_person

cv2 = import_cv2()

WORK = 192  # pixels of the square in which pictures are put together
MARGIN = 1.25  # side of the square / larger side of the person
FIRST_WALKER = 7_000_000  # people of no other set
FRAMES, PICKED = 24, 3  # of a walk that are posed, and drawn
PHOTOGRAPH = 0.55  # share of the backdrops
AS_FILMED, CUT_OUT, DRAWN = 0.38, 0.24, 0.28  # shares of the pictures; the others show nobody
NEIGHBOUR = 0.3, 0.14  # shares with somebody behind, and in front
SHADOW, POLE, HIDDEN, BORDER = 0.3, 0.12, 0.10, 0.10  # shares with each of these
HEIGHTS_PX = (40, 260)  # of the person in the camera's picture


@dataclass(frozen=True)
class Sample:
    """One picture of the training."""

    image: Image  # uint8 BGR [SIDE, SIDE, 3]
    mask: Floats  # [SIDE, SIDE], 0..1
    presence: float  # whether somebody is in the middle, 0..1


@dataclass(frozen=True)
class Cutout:
    """A person without what was behind."""

    image: Image  # uint8 BGR [h, w, 3]
    alpha: Floats  # [h, w], 0..1


def draw_walkers(count: int, seed: int = 5) -> list[Cutout]:
    """Return `PICKED` cut-outs of each of `count` Walkers in clothes, from all sides."""
    rng = np.random.default_rng(seed)
    cutouts = []
    for number in range(count):
        who = FIRST_WALKER + number
        session = make_session(
            900 + number, number % 3, who, ("nm", "nm", "bg", "cl")[number % 4],
            float(rng.uniform(0, 360)), shifted=number % 3 == 0,
        )  # fmt: skip
        images, masks = paint(take_session(make_person(who), session, FRAMES))
        for i in rng.choice(FRAMES, PICKED, replace=False):
            alpha = cv2.GaussianBlur(masks[i].astype(np.float32) / 255, (0, 0), 0.8)
            cutouts.append(_tight(images[i], alpha))
    return cutouts


class PictureMaker:
    """Makes training pictures from labelled crops, Walkers and photographs."""

    def __init__(
        self, crops: Sequence[LabelledCrop], walkers: Sequence[Cutout], photographs: Sequence[Image]
    ) -> None:
        """Take what pictures are made of.

        Args:
            crops: People in real clips.
            walkers: Synthetic people.
            photographs: Without people, of any size; may be none.
        """
        self._crops, self._walkers, self._photographs = crops, walkers, photographs

    def draw(self, rng: np.random.Generator) -> Sample:
        """Return one picture."""
        kind = rng.random()
        size = WORK / MARGIN * np.exp(rng.normal() * 0.09)
        if kind < AS_FILMED and self._crops:
            canvas, mask, presence = self._as_filmed(rng, size)
        else:
            canvas, mask, presence = self._put_together(rng, kind, size)
        self._cover(rng, canvas, mask)
        mask = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        if mask.sum() < 60:  # pixels: nearly everything is hidden
            presence = min(presence, 0.3)
        return Sample(as_seen(rng, canvas), mask, presence)

    def _as_filmed(self, rng: np.random.Generator, size: float) -> tuple[Floats, Floats, float]:
        """Return a labelled crop, moved, turned a little, maybe mirrored."""
        crop = self._crops[int(rng.integers(len(self._crops)))]
        x, y, w, h = crop.box
        angle, zoom = np.deg2rad(rng.normal() * 4), size / max(w, h)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * zoom
        if rng.random() < 0.5:
            turn[:, 0] *= -1
        middle = np.array([_near_middle(rng), _near_middle(rng)])
        shift = middle - turn @ np.array([x + w / 2, y + h / 2])
        matrix = np.concatenate([turn, shift[:, None]], 1).astype(np.float32)
        canvas = cv2.warpAffine(
            crop.image, matrix, (WORK, WORK), borderMode=cv2.BORDER_REPLICATE
        ).astype(np.float32)
        mask = cv2.warpAffine(crop.mask, matrix, (WORK, WORK)).astype(np.float32) / 255
        return recoloured(rng, canvas, 0.8), mask, crop.presence

    def _put_together(
        self, rng: np.random.Generator, kind: float, size: float
    ) -> tuple[Floats, Floats, float]:
        """Return a backdrop with people on it, one or nobody of them in the middle."""
        canvas = self._backdrop(rng).astype(np.float32)
        if rng.random() < 0.6:
            canvas = recoloured(rng, canvas)
        mask = np.zeros((WORK, WORK), np.float32)
        if kind >= AS_FILMED + CUT_OUT + DRAWN:
            if rng.random() < 0.5:
                self._add_neighbour(rng, canvas, mask, size, (0.5, 0.8))
            if rng.random() < 0.4:
                _add_box(rng, canvas)
            return canvas, mask, 0.0
        neighbour = rng.random()
        if neighbour < NEIGHBOUR[0]:
            self._add_neighbour(rng, canvas, mask, size, (0.3, 0.75))
        person, foot = self._person(rng, kind < AS_FILMED + CUT_OUT), _near_middle(rng)
        if rng.random() < SHADOW:
            _add_shadow(rng, canvas, person, size, foot + size / 2)
        lay(canvas, mask, person, (_near_middle(rng), foot, size), mine=True)
        if neighbour > 1 - NEIGHBOUR[1]:
            self._add_neighbour(rng, canvas, mask, size, (0.3, 0.75))
        return canvas, mask, 1.0

    def _person(self, rng: np.random.Generator, real: bool) -> Cutout:
        """Return somebody, maybe mirrored, in other colours."""
        if real and self._crops:
            crop = self._crops[int(rng.integers(len(self._crops)))]
            share = crop.mask.astype(np.float32) / 255
            cut = _tight(crop.image, np.clip((share - 0.5) * 1.6 + 0.42, 0, 1))
        else:
            cut = self._walkers[int(rng.integers(len(self._walkers)))]
            if self._photographs and rng.random() < 0.5:
                cut = self._patterned(rng, cut)
        step = -1 if rng.random() < 0.5 else 1
        image = recoloured(rng, cut.image[:, ::step])
        return Cutout(image.astype(np.uint8), np.ascontiguousarray(cut.alpha[:, ::step]))

    def _patterned(self, rng: np.random.Generator, cut: Cutout) -> Cutout:
        """Return somebody in clothes with the texture of a photograph."""
        h, w = cut.alpha.shape
        texture = self._photograph(rng, (0.1, 0.5), (h, w)).astype(np.float32)
        texture -= cv2.GaussianBlur(texture, (0, 0), 12)
        rows = slice(int(rng.uniform(0, 0.5) * h), int(rng.uniform(0.5, 1) * h))
        image = cut.image.astype(np.float32)
        image[rows] += rng.uniform(0.2, 1.0) * texture[rows]
        return Cutout(np.clip(image, 0, 255).astype(np.uint8), cut.alpha)

    def _add_neighbour(
        self,
        rng: np.random.Generator,
        canvas: Floats,
        mask: Floats,
        size: float,
        away: tuple[float, float],
    ) -> None:
        """Draw somebody beside the middle, who is no part of the mask.

        Args:
            rng: Random numbers.
            canvas: Picture, in place.
            mask: Of the person in the middle, in place.
            size: Of the person in the middle, in pixels.
            away: Least and most distance from the middle, in sides of the square.
        """
        column = WORK / 2 + rng.choice((-1, 1)) * rng.uniform(*away) * WORK
        row = _near_middle(rng) + rng.normal() * 0.05 * WORK
        person = self._person(rng, bool(rng.random() < 0.4))
        lay(canvas, mask, person, (column, row, size * np.exp(rng.normal() * 0.2)), mine=False)

    def _backdrop(self, rng: np.random.Generator) -> Image:
        """Return a square without people."""
        if self._photographs and rng.random() < PHOTOGRAPH:
            part = self._photograph(rng, (0.25, 1.0), (WORK, WORK))
            return part[:, :: -1 if rng.random() < 0.5 else 1]
        return backdrop(rng, (WORK, WORK), FAMILIES + SHIFTED_FAMILIES)

    def _photograph(
        self, rng: np.random.Generator, share: tuple[float, float], shape: tuple[int, int]
    ) -> Image:
        """Return a square part of a photograph, scaled to h, w."""
        picture = self._photographs[int(rng.integers(len(self._photographs)))]
        side = int(rng.uniform(*share) * min(picture.shape[:2]))
        top, left = (int(rng.integers(n - side + 1)) for n in picture.shape[:2])
        part = picture[top : top + side, left : left + side]
        return np.asarray(cv2.resize(part, shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)

    def _cover(self, rng: np.random.Generator, canvas: Floats, mask: Floats) -> None:
        """Hide parts of a picture, in place: behind a pole or a wall, outside the camera's view."""
        if rng.random() < POLE:
            width, left = int(rng.uniform(0.03, 0.14) * WORK), int(rng.uniform(0.2, 0.8) * WORK)
            columns = slice(left, left + width)
            canvas[:, columns], mask[:, columns] = self._backdrop(rng)[:, columns], 0
        if rng.random() < HIDDEN:
            rows = slice(int(rng.uniform(0.6, 0.9) * WORK), None)
            canvas[rows], mask[rows] = self._backdrop(rng)[rows], 0
        if rng.random() < BORDER:
            width = int(rng.uniform(0.03, 0.25) * WORK)
            ends = (np.s_[WORK - width :], np.s_[:, :width], np.s_[:, WORK - width :])
            place = ends[int(rng.integers(3))]
            canvas[place], mask[place] = 0, 0


def lay(
    canvas: Floats,
    mask: Floats,
    person: Cutout,
    place: tuple[float, float, float],
    *,
    mine: bool,
) -> None:
    """Draw a person into a picture, in place.

    Args:
        canvas: [h, w, 3].
        mask: [h, w], of the person in the middle.
        person: Whom to draw.
        place: Column and row of the middle and the larger side, in pixels.
        mine: Whether this is the person in the middle; others hide parts of the mask.
    """
    image, alpha = person.image, person.alpha
    column, row, size = place
    scale = size / max(alpha.shape)
    if scale < 0.7:  # warps have no mean over areas
        small = tuple(max(1, int(n * scale / 0.7)) for n in alpha.shape[::-1])
        image, alpha = (cv2.resize(a, small, interpolation=cv2.INTER_AREA) for a in (image, alpha))
        scale = 0.7
    h, w = alpha.shape
    matrix = np.array(
        [[scale, 0, column - scale * w / 2], [0, scale, row - scale * h / 2]], np.float32
    )
    square = canvas.shape[1], canvas.shape[0]
    colours = cv2.warpAffine(image, matrix, square, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(alpha, matrix, square)
    canvas += (colours.astype(np.float32) - canvas) * share[..., None]
    if mine:
        np.maximum(mask, share, out=mask)
    else:
        mask *= 1 - share


def recoloured(rng: np.random.Generator, image: Array, strength: float = 1.0) -> Floats:
    """Return a picture in another light: gamma, gain, level, tint, maybe greyer; [h, w, 3].

    Args:
        rng: Random numbers.
        image: [h, w, 3], 0..255.
        strength: Of the change.
    """
    out = np.clip(image, 0, 255).astype(np.float32)
    out = 255 * (out / 255) ** np.exp(rng.normal() * 0.35 * strength)
    out = out * (1 + rng.normal() * 0.22 * strength) + rng.normal() * 18 * strength
    out = out * (1 + rng.normal(size=3) * 0.07 * strength)
    if rng.random() < 0.25:
        grey = out.mean(2, keepdims=True)
        out = grey + (out - grey) * rng.uniform(0, 1)
    return np.asarray(np.clip(out, 0, 255), np.float32)


def as_seen(rng: np.random.Generator, canvas: Floats) -> Image:
    """Return uint8 [SIDE, SIDE, 3]: a square as it is cut out of a camera's picture."""
    seen = round(np.exp(rng.uniform(*np.log(HEIGHTS_PX))) * MARGIN)
    if rng.random() < 0.3:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.2:  # of the movement, sideways
        length = int(rng.integers(3, 9))
        canvas = cv2.blur(canvas, (length, 1))
    if seen < len(canvas):
        canvas = cv2.resize(canvas, (seen, seen), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.7:
        planes = 3 if rng.random() < 0.5 else 1
        noise = rng.standard_normal((*canvas.shape[:2], planes), np.float32)
        canvas = canvas + noise * np.float32(rng.uniform(1, 9))
    image: Bytes = np.clip(canvas, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        quality = int(rng.integers(22, 92))
        _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    kind = cv2.INTER_AREA if len(image) > SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=kind), np.uint8)


def _add_shadow(
    rng: np.random.Generator, canvas: Floats, person: Cutout, size: float, floor: float
) -> None:
    """Darken where a person's shadow lies, in place; floor: row of the feet."""
    h, w = person.alpha.shape
    scale, slant, rise = size / max(h, w), rng.uniform(-1.3, 1.3), rng.uniform(-0.5, 0.5)
    matrix = np.array([[scale, -scale * slant, 0], [0, scale * rise, 0]])
    matrix[:, 2] = np.array([WORK / 2, floor]) - matrix[:, :2] @ np.array([w / 2, h - 2])
    soft = cv2.GaussianBlur(person.alpha, (0, 0), 2.0)
    share = cv2.warpAffine(soft, matrix.astype(np.float32), (WORK, WORK))
    canvas *= (1 - rng.uniform(0.2, 0.6) * share)[..., None]


def _add_box(rng: np.random.Generator, canvas: Floats) -> None:
    """Draw a thing in the middle that is no person, in place."""
    left, top = int(rng.uniform(0.3, 0.55) * WORK), int(rng.uniform(0.1, 0.3) * WORK)
    right = left + int(rng.uniform(0.1, 0.3) * WORK)
    bottom = top + int(rng.uniform(0.4, 0.8) * WORK)
    colour = rng.uniform(0, 255, 3).tolist()
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, cv2.FILLED)


def _near_middle(rng: np.random.Generator) -> float:
    return float(WORK * (0.5 + rng.normal() * 0.035))


def _tight(image: Image, alpha: Floats, margin: int = 3) -> Cutout:
    """Return a cut-out with `margin` pixels around the person."""
    x, y, w, h = cv2.boundingRect((alpha > 0.3).astype(np.uint8))
    rows = slice(max(0, y - margin), y + h + margin)
    columns = slice(max(0, x - margin), x + w + margin)
    return Cutout(image[rows, columns], alpha[rows, columns])
