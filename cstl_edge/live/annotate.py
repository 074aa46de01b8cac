"""Pictures for people: annotated frames, a strip of silhouettes, the salient parts (Fig. 7).

Text is drawn by Pillow, because cv2's fonts have only ASCII. Letters: `s` frames, `h w` pixels,
`p` parts.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cstl_edge.arrays import Image, Indices, Ints, Mask, Silhouettes
from cstl_edge.errors import DataError, one_line
from cstl_edge.live.boxes import Box, overlap_slices
from cstl_edge.live.label_layout import Place, place_labels
from cstl_edge.opencv import import_cv2
from cstl_edge.output import write_file

cv2 = import_cv2()

Answer = Literal["known", "unknown", "none"]
COLOURS: dict[Answer, tuple[int, int, int]] = {  # BGR; apart for every kind of colour vision
    "known": (233, 180, 86),  # sky blue, a solid box
    "unknown": (0, 159, 230),  # orange, a dashed box
    "none": (200, 200, 200),  # grey, a dotted box
}
DASHES: dict[Answer, tuple[int, int]] = {"known": (1, 0), "unknown": (14, 8), "none": (3, 6)}
"""Pixels drawn and left out along the box: the answer is plain without colours, too."""
RED = (40, 40, 230)
FONT_SHARE = 0.032  # of the frame's height
FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")
OVERLAY = 0.35  # share of the colour over the person
GAP = 2  # pixels between tiles


@dataclass(frozen=True)
class WalkerView:
    """One walker to draw in one frame."""

    box: Box
    label: str
    answer: Answer = "none"
    mask: Mask | None = None
    track: int = -1


def annotate(image: Image, walkers: Sequence[WalkerView], note: str | None = None) -> Image:
    """Return a copy of a frame with boxes, silhouettes, labels and a note.

    Args:
        image: uint8 [H, W, 3], BGR.
        walkers: To draw.
        note: At the top of the picture.
    """
    picture = image.copy()
    size = max(11, round(FONT_SHARE * image.shape[0]))
    for walker in walkers:
        x, y, w, h = (round(v) for v in walker.box)
        if walker.mask is not None:
            _tint(picture, walker.mask, (x, y, w, h), COLOURS[walker.answer])
        _draw_box(picture, (x, y, w, h), walker.answer)
    tiles = [_label(one_line(w.label, 40), size, COLOURS[w.answer]) for w in walkers]
    taken = []
    if note:
        tile = _label(one_line(note, 90), size, COLOURS["none"])
        _paste(picture, tile, (0, 0))
        taken = [(0.0, 0.0, float(tile.shape[1]), float(tile.shape[0]))]
    sizes = [(tile.shape[1], tile.shape[0]) for tile in tiles]
    places = place_labels(sizes, [w.box for w in walkers], (image.shape[0], image.shape[1]), taken)
    for walker, tile, place in zip(walkers, tiles, places, strict=True):
        _lead(picture, tile, place, walker)
    for tile, place in zip(tiles, places, strict=True):
        _paste(picture, tile, place)
    return picture


def silhouette_strip(silhouettes: Silhouettes, columns: int = 15) -> Image:
    """Return silhouettes [s, h, w] in rows, as a BGR picture."""
    return _grid([cv2.merge([s, s, s]) for s in silhouettes], columns)


def salient_parts(
    silhouettes: Silhouettes, salient_frames: Ints, *, columns: int = 10, zoom: int = 3
) -> Image:
    """Return the frames of a window with red boxes around the parts that each of them gave.

    Neighbouring parts from one frame share a box, and a frame that gave nothing is dim.

    Args:
        silhouettes: uint8 [s, h, w], the window of the embedding.
        salient_frames: [p], the frame of each part, from top to bottom, -1 for none.
        columns: Frames in a row of the picture.
        zoom: Pixels of the picture per pixel of a silhouette.
    """
    height, parts, tiles = silhouettes.shape[1] * zoom, len(salient_frames), []
    for number, silhouette in enumerate(silhouettes):
        chosen = np.flatnonzero(salient_frames == number)
        dimmed = silhouette if chosen.size else silhouette // 3
        tile = cv2.resize(dimmed, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
        picture = cv2.merge([tile, tile, tile])
        for run in _runs(chosen):
            top, bottom = height * int(run[0]) // parts, height * int(run[-1] + 1) // parts - 1
            cv2.rectangle(picture, (0, top), (picture.shape[1] - 1, bottom), RED, 2)
        tiles.append(picture)
    return _grid(tiles, columns)


def save_picture(path: str | os.PathLike[str], picture: Image) -> Path:
    """Write a PNG, whole or not at all (StorageError)."""
    return write_file(path, cv2.imencode(".png", picture)[1].tobytes())


def _tint(image: Image, mask: Mask, box: tuple[int, int, int, int], colour: Any) -> None:
    x, y, w, h = box
    if w < 1 or h < 1:
        return
    scaled = cv2.resize(mask, (w, h), interpolation=cv2.INTER_LINEAR)
    there, own = overlap_slices(x, y, scaled.shape, image.shape)
    part, inside = image[there], scaled[own] > 127
    part[inside] = ((1 - OVERLAY) * part[inside] + OVERLAY * np.array(colour)).astype(np.uint8)


@lru_cache(maxsize=64)
def _label(text: str, size: int, colour: tuple[int, int, int]) -> Image:
    """Return a tile of text on a coloured ground, BGR."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    font, text = _font(size, text)
    left, top, right, bottom = (int(v) for v in font.getbbox(text))
    tile = Pillow.new("RGB", (right - left + 8, max(bottom - top, size) + 8), colour[::-1])
    ImageDraw.Draw(tile).text((4 - left, 4 - top), text, fill=(0, 0, 0), font=font)
    return np.ascontiguousarray(np.asarray(tile)[:, :, ::-1])


def _font(size: int, text: str) -> tuple[Any, str]:
    """Return a font, and the text in the letters that it has."""
    from PIL import ImageFont

    for name in FONTS:
        try:
            return ImageFont.truetype(name, size), text
        except OSError:
            continue
    # Pillow's own font has only ASCII: accents go, other letters become question marks
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return ImageFont.load_default(size), plain.encode("ascii", "replace").decode()


def _draw_box(image: Image, box: tuple[int, int, int, int], answer: Answer) -> None:
    """Draw a box in the colour and with the dashes of an answer."""
    x, y, w, h = box
    colour, (drawn, left_out) = COLOURS[answer], DASHES[answer]
    if not left_out:
        cv2.rectangle(image, (x, y), (x + w, y + h), colour, 2)
        return
    corners = ((x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y))
    for (x0, y0), (x1, y1) in pairwise(corners):
        length = max(abs(x1 - x0), abs(y1 - y0), 1)
        for start in range(0, length, drawn + left_out):
            ends = (start / length, min(start + drawn, length) / length)
            (ax, ay), (bx, by) = (
                (round(x0 + (x1 - x0) * end), round(y0 + (y1 - y0) * end)) for end in ends
            )
            cv2.line(image, (ax, ay), (bx, by), colour, 2)


def _lead(image: Image, tile: Image, place: Place, walker: WalkerView) -> None:
    """Draw a line from a label to its walker, where they do not touch."""
    (left, top), (height, width) = place, tile.shape[:2]
    x, y, w, h = (round(v) for v in walker.box)
    apart_x = max(x - (left + width), left - (x + w))
    apart_y = max(y - (top + height), top - (y + h))
    if max(apart_x, apart_y) > height // 2:
        start = (left + width // 2, top + height // 2)
        end = (min(max(start[0], x), x + w), min(max(start[1], y), y + h))  # nearest of the box
        cv2.line(image, start, end, COLOURS[walker.answer], 2)


def _paste(image: Image, tile: Image, place: Place) -> None:
    x, y = place
    part = image[y : y + tile.shape[0], x : x + tile.shape[1]]
    part[:] = tile[: part.shape[0], : part.shape[1]]


def _grid(tiles: Sequence[Image], columns: int) -> Image:
    if not tiles:
        raise DataError("expected at least one silhouette to draw, got none")
    h, w = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    out = np.full((rows * (h + GAP) + GAP, columns * (w + GAP) + GAP, 3), 90, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = GAP + i // columns * (h + GAP), GAP + i % columns * (w + GAP)
        out[top : top + h, left : left + w] = tile
    return out


def _runs(numbers: Indices) -> list[Indices]:
    """Return the runs of consecutive numbers."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return [run for run in runs if run.size]
