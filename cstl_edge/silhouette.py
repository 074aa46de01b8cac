"""Masks of people, aligned as the network wants them: the one implementation, training and live.

The rule is the field's (crop the rows, scale to the full height, centre on the column that halves
the mass, keep 44/64 of the height), with one interpolation: each pixel of the result is the mean of
the area it covers (`cv2.INTER_AREA`), so that a 300-pixel person shrinks to 64 rows without the
aliasing of bicubic sampling; where a small person grows, and there is no area to average, it is
linear. The result is therefore not strictly binary. Letters: `s` frames, `h w` pixels.
"""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cstl_edge.errors import DataError, one_line

if TYPE_CHECKING:
    from PIL.Image import Image


def read_walks(path: str | Path, size: tuple[int, int]) -> list[Silhouette]:
    """Return walks, uint8 [s, h, w] each, from the images of one or from folders of them.

    Raises DataError that names the folder or the file.
    """
    source = Path(path)
    if not source.is_dir() or numbered_images(source):
        return [read_silhouettes(source, size)]
    folders = sorted(entry for entry in source.iterdir() if entry.is_dir())
    if not folders:
        raise DataError(
            f"no silhouettes in {one_line(source)}; expected the images of one walk, or folders of "
            "them"
        )
    return [read_silhouettes(folder, size) for folder in folders]


Silhouette = npt.NDArray[np.uint8]

SMALL = (64, 44)  # h, w in pixels
LARGE = (128, 88)
SIZES = (SMALL, LARGE)
MIN_HEIGHT_PX = 48  # below it a 64-row silhouette is mostly invented
MIN_FILL, MAX_FILL = 0.15, 0.85  # share of its bounding box that a walking person covers
MIN_ASPECT, MAX_ASPECT = 0.15, 0.85  # width / height of the bounding box, seen from any side
FOREGROUND = 128  # a mask pixel from this value on belongs to the person
MAX_PIXELS = 16_000_000  # a larger image is refused from its header
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


class Refusal(str, Enum):
    """Why a mask does not become a silhouette."""

    EMPTY = "empty"
    TOO_SMALL = "too small"
    CLIPPED = "clipped at the border"
    NOT_PERSON = "not person-shaped"


def touches_border(mask: Silhouette) -> bool:
    """Tell whether the person of a whole-frame mask [H, W] reaches the outermost row or column."""
    edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    return any(bool((edge >= FOREGROUND).any()) for edge in edges)


def refusal(
    mask: Silhouette, *, clipped: bool = False, min_height_px: int = MIN_HEIGHT_PX
) -> Refusal | None:
    """Return the reason why a mask must not be used, or None when it may.

    mask: uint8 [H, W], 0..255, a crop or a whole frame
    clipped: the person touches the border of the camera's frame
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


def align(mask: Silhouette, size: tuple[int, int] = SMALL) -> Silhouette:
    """Return the aligned silhouette of a mask.

    mask: uint8 [H, W], 0..255; returns uint8 [h, w], 0..255; raises DataError on an empty mask
    """
    import cv2

    box = _bounding_box(mask)
    if box is None:
        raise DataError("expected a mask with a person, got an empty one; drop this frame")
    top, bottom, left, right = box
    h, w = size
    person = np.ascontiguousarray(mask[top:bottom, left:right])
    scaled_width = max(1, round(h * (right - left) / (bottom - top)))
    if scaled_width > 8 * h:
        raise DataError(
            f"expected a standing person, got a mask of {right - left}x{bottom - top} px"
        )
    how = cv2.INTER_AREA if h <= bottom - top else cv2.INTER_LINEAR
    scaled = cv2.resize(person, (scaled_width, h), interpolation=how)  # [h, scaled_width]
    start = _centre_column(scaled) - w // 2
    out = np.zeros((h, w), np.uint8)
    first, last = max(start, 0), min(start + w, scaled_width)
    out[:, first - start : last - start] = scaled[:, first:last]
    return out


def fit(silhouettes: Silhouette, size: tuple[int, int] = SMALL) -> Silhouette:
    """Cut silhouettes that are already aligned to `size`.

    silhouettes: uint8 [s, H, W]; squares [h, h] lose their margins (64 → 44, 128 → 88), [h, w] pass
    as they are, any other form raises DataError (a width of 88 must never be cut to 68)
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


def read_silhouettes(
    path: str | Path, size: tuple[int, int] = SMALL, *, mirrored: bool = False
) -> Silhouette:
    """Read the silhouettes of one walk.

    path: a folder of images in the order of their numbers, one image, or a .npy file with uint8 [s,
    h, w]. Images of one of the aligned forms (64x44, 64x64, 128x88, 128x128) must fit `size`; all
    others are masks and are aligned here, unusable ones left out.
    mirrored: mirror them, because the walk goes to the right of the picture: networks trained on
    Walkers know walks to the left, and the live path mirrors the others by itself
    Returns uint8 [s, h, w]; raises DataError that names the file.
    """
    source = Path(path)
    if not source.exists():
        raise DataError(
            f"no silhouettes at {one_line(source)}; expected a folder of images or a .npy file"
        )
    stored = source.suffix == ".npy"
    found = fit(_read_npy(source), size) if stored else _read_images(source, size)
    return np.ascontiguousarray(found[..., ::-1]) if mirrored else found


def _read_images(source: Path, size: tuple[int, int]) -> Silhouette:
    files = numbered_images(source) if source.is_dir() else [source]
    if not files:
        raise DataError(f"no images ({', '.join(IMAGE_SUFFIXES)}) in {one_line(source)}")
    kept, refused = [], dict.fromkeys(Refusal, 0)
    for file in files:
        image = read_image(file, grey=True)
        if image.shape in {(64, 44), (64, 64), (128, 88), (128, 128)}:
            kept.append(fit(image[None], size)[0])
        elif why := refusal(image, clipped=touches_border(image)):
            refused[why] += 1
        else:
            kept.append(align(image, size))
    if not kept:
        reasons = ", ".join(f"{count} {why.value}" for why, count in refused.items() if count)
        raise DataError(
            f"no usable silhouette among {len(files)} images of {one_line(source)}: {reasons}"
        )
    return np.stack(kept)  # [s, h, w]


def numbered_images(folder: Path) -> list[Path]:
    """List the images of a folder by the numbers in their names (2.png before 10.png).

    Hidden files are left out.
    """

    def order(file: Path) -> list[tuple[int, str]]:
        return [(int(t), "") if t.isdecimal() else (-1, t) for t in re.split(r"(\d+)", file.name)]

    found = (f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
    return sorted((f for f in found if not f.name.startswith(".")), key=order)


def read_image(path: str | Path, *, grey: bool = False) -> npt.NDArray[np.uint8]:
    """Read one image, its header first, so that a small file cannot ask for much memory.

    Returns uint8 [H, W] when grey, else BGR [H, W, 3]; transparency is dropped, 16 bits are scaled
    to 8, a palette is resolved. Raises DataError that names the file and the fault.
    """
    from PIL import Image, UnidentifiedImageError

    name = one_line(path)
    try:
        with Image.open(path, formats=("PNG", "JPEG", "BMP")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{name} is {image.width}x{image.height}; expected at most "
                    f"{MAX_PIXELS // 10**6} megapixels"
                )
            pixels = _to_grey(image) if grey else np.asarray(image.convert("RGB"))[:, :, ::-1]
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
    ) as err:
        raise DataError(
            f"cannot read the image {name}: {one_line(err)}; replace or remove it"
        ) from err
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def _to_grey(image: Image) -> npt.NDArray[Any]:
    if image.mode.startswith("I") or image.mode == "F":
        return np.clip(np.asarray(image, dtype=np.float64) / 257.0, 0, 255).round()
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA").convert("RGB")
    return np.asarray(image.convert("L"))


def _read_npy(path: Path) -> Silhouette:
    try:
        array: Silhouette = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as err:
        raise DataError(f"cannot read {one_line(path)}: {one_line(err)}") from err
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] == 0:
        raise DataError(
            f"{one_line(path)}: expected uint8 [s, h, w] with s > 0, "
            f"got {array.dtype} {list(array.shape)}"
        )
    return array


def _bounding_box(mask: Silhouette) -> tuple[int, int, int, int] | None:
    """Return top, bottom, left, right (ends exclusive) of the person, None when there is none."""
    person = mask >= FOREGROUND
    rows = np.flatnonzero(person.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(person.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _centre_column(silhouette: npt.NDArray[Any]) -> int:
    """Return the first column whose cumulative mass exceeds half."""
    mass = silhouette.sum(axis=0, dtype=np.int64).cumsum()
    return int(np.searchsorted(mass, mass[-1] / 2, side="right"))
