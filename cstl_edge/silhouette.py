"""Alignment of person masks into the network's silhouettes, and reading of silhouettes from disk.

Training and the live path share this one implementation. The rule is the field's (crop the rows,
scale to the full height, centre on the column that halves the mass, keep 44/64 of the height), with
one interpolation: each pixel of the result is the mean of the area that it covers
(`cv2.INTER_AREA`), so that a 300-pixel person shrinks to 64 rows without the aliasing of bicubic
sampling; where a small person grows, and there is no area to average, it is linear. The result is
therefore not strictly binary. Letters: `s` frames, `h w` pixels of a silhouette, `H W` of a mask.
"""

from __future__ import annotations

import io
import logging
import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cstl_edge.arrays import Array, Bytes, Mask, Silhouettes
from cstl_edge.errors import DataError, one_line
from cstl_edge.foreign import MAX_PIXELS, parsing, read_bytes, read_npy
from cstl_edge.opencv import import_cv2

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

SMALL = (64, 44)  # h, w in pixels
LARGE = (128, 88)
SIZES = (SMALL, LARGE)
ALIGNED_FORMS = frozenset({(64, 44), (64, 64), (128, 88), (128, 128)})
"""Image sizes that are aligned silhouettes, with and without margins; all others are masks."""
GREY, MAX_GREY = (64, 192), 0.25  # share of an aligned silhouette; Walkers have 0.074 at most
MIN_SHARE, MAX_SHARE = 0.05, 0.75  # of it that the person covers; Walkers have 0.145 to 0.647
MIN_EDGES, MAX_EDGES = 0.5, 8.0  # changes in a row, mean; Walkers have 1.6 to 4.6, noise 21
MIN_HEIGHT_PX = 48  # below it a 64-row silhouette is mostly interpolated
MIN_FILL, MAX_FILL = 0.15, 0.85  # share of its bounding box that a walking person covers
MIN_ASPECT, MAX_ASPECT = 0.15, 0.85  # width / height of the bounding box, seen from any side
FOREGROUND = 128  # a mask pixel from this value on belongs to the person
MAX_IMAGE_BYTES = 64 * 2**20
MAX_WALK_BYTES = 2**28  # 24,000 frames of 128x88
IMAGE = "a PNG, JPEG or BMP image"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


class Refusal(str, Enum):
    """Reasons why a mask does not become a silhouette."""

    EMPTY = "empty"
    TOO_SMALL = "too small"
    CLIPPED = "clipped at the border"
    NOT_PERSON = "not person-shaped"


def touches_border(mask: Mask) -> bool:
    """Return whether the person of a whole-frame mask [H, W] reaches the frame's border."""
    edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    return any(bool((edge >= FOREGROUND).any()) for edge in edges)


def refusal(
    mask: Mask, *, clipped: bool = False, min_height_px: int = MIN_HEIGHT_PX
) -> Refusal | None:
    """Return the reason why a mask must not be used, None when it may.

    Args:
        mask: uint8 [H, W], 0..255, a crop or a whole frame.
        clipped: Whether the person touches the border of the camera's frame.
        min_height_px: Least height; smaller people are refused.
    """
    box = _bounding_box(mask)
    if box is None:
        return Refusal.EMPTY
    top, bottom, left, right = box
    height, width = bottom - top, right - left
    if height < min_height_px:
        return Refusal.TOO_SMALL
    if clipped:
        return Refusal.CLIPPED
    fill = np.count_nonzero(mask[top:bottom, left:right] >= FOREGROUND) / (height * width)
    if not (MIN_ASPECT <= width / height <= MAX_ASPECT and MIN_FILL <= fill <= MAX_FILL):
        return Refusal.NOT_PERSON
    return None


def align(mask: Mask, size: tuple[int, int] = SMALL) -> Silhouettes:
    """Return the aligned silhouette, uint8 [h, w], of a mask, uint8 [H, W], both 0..255.

    Raises DataError on a mask that is empty or wider than any person.
    """
    cv2 = import_cv2()
    box = _bounding_box(mask)
    if box is None:
        raise DataError("expected a mask with a person, got an empty one; drop this frame")
    top, bottom, left, right = box
    height, width = bottom - top, right - left
    h, w = size
    person = np.ascontiguousarray(mask[top:bottom, left:right])
    scaled_width = max(1, round(h * width / height))
    if scaled_width > 8 * h:
        raise DataError(f"expected a standing person, got a mask of {width}x{height} px")
    interpolation = cv2.INTER_AREA if h <= height else cv2.INTER_LINEAR
    scaled = cv2.resize(person, (scaled_width, h), interpolation=interpolation)  # [h, scaled_width]
    start = _centre_column(scaled) - w // 2
    out = np.zeros((h, w), np.uint8)
    first, last = max(start, 0), min(start + w, scaled_width)
    out[:, first - start : last - start] = scaled[:, first:last]
    return out


def crop_aligned(silhouettes: Silhouettes, size: tuple[int, int] = SMALL) -> Silhouettes:
    """Crop already aligned silhouettes, uint8 [s, H, W], to `size`.

    Squares [h, h] lose their margins (64 → 44, 128 → 88), [h, w] pass as they are, any other form
    raises DataError: a width of 88 must never be cut to 68.
    """
    h, w = size
    got = silhouettes.shape[-2:]
    if got == (h, w):
        return silhouettes
    if got == (h, h):
        margin = (h - w) // 2
        return np.ascontiguousarray(silhouettes[..., margin : margin + w])
    raise DataError(
        f"expected aligned silhouettes of {h}x{w} or {h}x{h}, got {got[0]}x{got[1]}; "
        "give the raw masks instead, they are aligned on reading"
    )


def scale_two_valued(images: Array) -> tuple[Array, int | None]:
    """Return images uint8 of 0 and one other number as 0 and 255, and that number.

    Images of other numbers, or of 0 and 255, come back as they are, with None.
    """
    peak, background = int(images.max(initial=0)), images == 0
    two_valued = bool(background.any()) and bool((background | (images == peak)).all())
    if peak in (0, 255) or not two_valued:
        return images, None
    return np.where(background, np.uint8(0), np.uint8(255)), peak


def implausible(silhouettes: Silhouettes) -> str | None:
    """Return why aligned silhouettes [s, h, w] show nobody who walks, None when most of them may.

    A silhouette is nearly two-valued, black around the head, and of few runs in each row.
    """
    person = silhouettes >= FOREGROUND
    grey = ((silhouettes >= GREY[0]) & (silhouettes < GREY[1])).mean(axis=(1, 2))  # [s]
    corner = silhouettes.shape[1] // 8
    corners = [
        person[:, :corner, part].mean((1, 2)) for part in (slice(corner), slice(-corner, None))
    ]
    share = person.mean(axis=(1, 2))
    edges = (person[:, :, 1:] != person[:, :, :-1]).sum(axis=2).mean(axis=1)  # of a row
    faults = {
        "they are grey: expected 0 for the background and 255 for the person": grey > MAX_GREY,
        "the background is white: invert them": (np.minimum(*corners) > 0.5) & (share < 1),
        "everything is white": share == 1,
        "nearly everything is black": share < MIN_SHARE,
        "they show no person, but noise or a pattern": (edges > MAX_EDGES) | (edges < MIN_EDGES),
        "the white area is too large for a person": share > MAX_SHARE,
    }
    if np.logical_or.reduce(list(faults.values())).mean() <= 0.5:
        return None
    return max(faults, key=lambda fault: float(faults[fault].mean()))


def read_silhouettes(
    path: str | Path, size: tuple[int, int] = SMALL, *, mirrored: bool = False
) -> Silhouettes:
    """Read the silhouettes of one walk, uint8 [s, h, w].

    Args:
        path: Folder of images in the order of their numbers, one image, or a .npy file with uint8
            or bool [s, h, w]; 0 and 1 are taken as 0 and 255, with a warning. Images of
            one of ALIGNED_FORMS must fit `size`; all others are masks and are aligned here,
            unusable ones left out.
        size: Height and width in pixels.
        mirrored: Whether to mirror a walk that goes to the right of the picture: networks trained
            on Walkers know walks to the left (the live path mirrors the others by itself).

    Raises:
        DataError: names the file and the fault.
    """
    source = Path(path)
    if not source.exists():
        expected = "expected a folder of images or a .npy file"
        raise DataError(f"no silhouettes at {one_line(source)}; {expected}")
    silhouettes, aligned, values = (_read_npy if source.suffix == ".npy" else _read_images)(
        source, size
    )
    if values:
        log.warning("%s: values 0 and %s are taken as 0 and 255", one_line(source), values[0])
    if aligned and (reason := implausible(silhouettes)):
        raise DataError(f"{one_line(source)}: these are no aligned silhouettes: {reason}")
    return np.ascontiguousarray(silhouettes[..., ::-1]) if mirrored else silhouettes


def read_silhouette_folders(path: str | Path, size: tuple[int, int]) -> list[Silhouettes]:
    """Read one walk, or every walk of a folder of walks: uint8 [s, h, w] each.

    Raises DataError that names the folder or the file.
    """
    source = Path(path)
    if not source.is_dir() or numbered_images(source):
        return [read_silhouettes(source, size)]
    folders = sorted(entry for entry in source.iterdir() if entry.is_dir())
    if not folders:
        expected = "expected the images of one walk, or folders of them"
        raise DataError(f"no silhouettes in {one_line(source)}; {expected}")
    return [read_silhouettes(folder, size) for folder in folders]


def numbered_images(folder: Path) -> list[Path]:
    """List a folder's images, but hidden ones, by their numbers (2.png before 10.png)."""

    def order(file: Path) -> list[tuple[int, str]]:
        return [(int(t), "") if t.isdecimal() else (-1, t) for t in re.split(r"(\d+)", file.name)]

    images = (f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
    return sorted((f for f in images if not f.name.startswith(".")), key=order)


def read_image(path: str | Path, *, grey: bool = False) -> Bytes:
    """Read one image, its header first, so that a small file cannot claim much memory.

    Returns uint8 [H, W] when grey, else BGR [H, W, 3]; transparency is dropped, 16 bits are scaled
    to 8, a palette is resolved. Raises DataError that names the file and the fault.
    """
    from PIL import Image

    name = one_line(path)
    data = io.BytesIO(read_bytes(path, MAX_IMAGE_BYTES, IMAGE))
    with parsing(path, IMAGE), Image.open(data, formats=("PNG", "JPEG", "BMP")) as image:
        if image.width * image.height > MAX_PIXELS:
            expected = f"expected at most {MAX_PIXELS // 10**6} megapixels"
            raise DataError(f"{name} is {image.width}x{image.height}; {expected}")
        pixels = _to_grey(image) if grey else np.asarray(image.convert("RGB"))[:, :, ::-1]
    return np.ascontiguousarray(pixels, dtype=np.uint8)


_Read = tuple[Silhouettes, bool, list[int]]  # walk, aligned already?, numbers in the place of 255


def _read_images(source: Path, size: tuple[int, int]) -> _Read:
    files = numbered_images(source) if source.is_dir() else [source]
    if not files:
        raise DataError(f"no images ({', '.join(IMAGE_SUFFIXES)}) in {one_line(source)}")
    silhouettes, refused, values = [], dict.fromkeys(Refusal, 0), list[int]()
    aligned = 0
    for file in files:
        image, value = scale_two_valued(read_image(file, grey=True))
        values += [value] if value else []
        if image.shape in ALIGNED_FORMS:
            silhouettes.append(crop_aligned(image[None], size)[0])
            aligned += 1
        elif reason := refusal(image, clipped=touches_border(image)):
            refused[reason] += 1
        else:
            silhouettes.append(align(image, size))
    if not silhouettes:
        reasons = ", ".join(f"{count} {reason.value}" for reason, count in refused.items() if count)
        images = f"{len(files)} images of {one_line(source)}"
        raise DataError(f"no usable silhouette among {images}: {reasons}")
    return np.stack(silhouettes), 2 * aligned > len(silhouettes), values  # [s, h, w]


def _read_npy(path: Path, size: tuple[int, int]) -> _Read:
    array: Silhouettes = read_npy(path, "a .npy file of silhouettes, uint8 [s, h, w]")
    if array.dtype not in (np.uint8, np.bool_) or array.ndim != 3 or array.shape[0] == 0:
        got = f"got {array.dtype} {list(array.shape)}"
        raise DataError(f"{one_line(path)}: expected uint8 [s, h, w] with s > 0, {got}")
    if array.nbytes > MAX_WALK_BYTES:
        got = f"got {array.nbytes}"
        raise DataError(
            f"{one_line(path)}: expected one walk, at most {MAX_WALK_BYTES} bytes, {got}"
        )
    scaled, value = scale_two_valued(np.asarray(crop_aligned(array, size)).astype(np.uint8))
    return scaled, True, [value] if value else []


def _to_grey(image: Image) -> Array:
    if image.mode.startswith("I") or image.mode == "F":
        return np.clip(np.asarray(image, dtype=np.float64) / 257.0, 0, 255).round()
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA").convert("RGB")
    return np.asarray(image.convert("L"))


def _bounding_box(mask: Mask) -> tuple[int, int, int, int] | None:
    """Return top, bottom, left, right (ends exclusive) of the person, None when there is none."""
    person = mask >= FOREGROUND
    rows = np.flatnonzero(person.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(person.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _centre_column(silhouette: Array) -> int:
    """Return the first column whose cumulative mass exceeds half."""
    mass = silhouette.sum(axis=0, dtype=np.int64).cumsum()
    return int(np.searchsorted(mass, mass[-1] / 2, side="right"))
