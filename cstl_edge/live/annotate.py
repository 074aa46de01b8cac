"""Pictures for people: the annotated video, a strip of silhouettes, the salient parts (Fig. 7).

Text is drawn by Pillow, because cv2's fonts have only ASCII. A video is written under a temporary
name and renamed when it is complete. Letters: `s` frames, `h w` pixels, `p` parts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.arrays import Image, Indices, Ints, Mask, Silhouettes
from cstl_edge.errors import DataError, one_line
from cstl_edge.live.boxes import Box, overlap_slices
from cstl_edge.opencv import import_cv2

cv2 = import_cv2()

log = logging.getLogger(__name__)

# cv2's wheels carry no H.264 encoder; a system cv2 may
CODECS = (("avc1", ".mp4"), ("mp4v", ".mp4"), ("MJPG", ".avi"))
NAMED, UNKNOWN, PENDING = (80, 200, 60), (60, 140, 255), (170, 170, 170)  # BGR
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
    colour: tuple[int, int, int] = PENDING
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
            _tint(picture, walker.mask, (x, y, w, h), walker.colour)
        cv2.rectangle(picture, (x, y), (x + w, y + h), walker.colour, 2)
        tile = _label(one_line(walker.label, 60), size, walker.colour)
        _paste(picture, tile, x, y - tile.shape[0] if y >= tile.shape[0] else y + h)
    if note:
        _paste(picture, _label(one_line(note, 90), size, PENDING), 0, 0)
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
    """Write a PNG, whole or not at all; raises DataError when that is impossible."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        os.replace(temporary, target)
    except OSError as err:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise DataError(f"cannot write {one_line(target)}: {err.strerror}") from err
    return target


class AnnotatedVideo:
    """Writes frames to a video file; use as a context manager.

    The file appears under its name when the block ends well, also after Ctrl-C; an error removes
    it. `path` is the name in the end, with .avi where cv2 has no MP4 encoder.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float) -> None:
        """Name the file; fps: frames per second, 25 where it is not positive."""
        self.path = Path(path)
        self._fps = fps if fps > 0 else 25.0
        self._writer: Any = None
        self._size: tuple[int, int] | None = None  # width, height
        self._temporary = self.path

    def write(self, image: Image, walkers: Sequence[WalkerView], note: str | None = None) -> None:
        """Append one frame; its size may change, the video keeps that of the first.

        Args:
            image: uint8 [H, W, 3], BGR.
            walkers: People to draw.
            note: Line of text in the picture.
        """
        picture = annotate(image, walkers, note)
        if self._writer is None:
            self._start(picture.shape[1], picture.shape[0])
        if picture.shape[1::-1] != self._size:
            picture = cv2.resize(picture, self._size)
        self._writer.write(picture)

    def _start(self, width: int, height: int) -> None:
        self._size = (width, height)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise DataError(f"cannot write {one_line(self.path)}: {err.strerror}") from err
        for codec, suffix in CODECS:
            self._temporary = self.path.with_name(f".{self.path.stem}.part{suffix}")
            self._writer = _open_writer(self._temporary, codec, self._fps, self._size)
            if self._writer is not None:
                if self.path.suffix != suffix:
                    log.warning("no %s encoder in this cv2: writing %s", self.path.suffix, suffix)
                    self.path = self.path.with_suffix(suffix)
                return
        raise DataError(
            f"cannot write the video {one_line(self.path)}: cv2 has none of the encoders "
            f"{', '.join(codec for codec, _ in CODECS)}, or the folder is not writable"
        )

    def close(self, *, keep: bool = True) -> None:
        """End the video and give it its name, or remove it (keep=False); may be called twice."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if keep:
            os.replace(self._temporary, self.path)
        else:
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.close(keep=kind is None or issubclass(kind, KeyboardInterrupt | GeneratorExit))


def _open_writer(path: Path, codec: str, fps: float, size: tuple[int, int]) -> Any:
    """Return an open cv2.VideoWriter, None when the codec is missing."""
    level = cv2.getLogLevel()
    # a missing codec is no error to print: the next one is tried
    cv2.setLogLevel(0)
    try:
        code = cv2.VideoWriter.fourcc(*codec)
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, fps, size)
        if not writer.isOpened() and codec == "MJPG":  # cv2's own encoder, in every build
            writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, code, fps, size)
    finally:
        cv2.setLogLevel(level)
    if writer.isOpened():
        return writer
    path.unlink(missing_ok=True)
    return None


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


def _paste(image: Image, tile: Image, x: int, y: int) -> None:
    x = min(max(x, 0), max(0, image.shape[1] - tile.shape[1]))
    y = min(max(y, 0), max(0, image.shape[0] - tile.shape[0]))
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
