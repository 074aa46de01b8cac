"""The frames of one recording, from untrusted images to aligned silhouettes.

Images of one of the aligned forms (64x44, 64x64, 128x88, 128x128) are taken as they are when they
are the majority of their recording: never realigned, cut to the width by `silhouette.fit`, dropped
only when they are all black or all white. All others are masks: the gate says which of them show a
person, and `silhouette.align` makes the silhouette. Letters: `s` frames, `h w` pixels.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from cstl_edge.data.importing.layouts import LAYOUTS, Layout, Recording, inside
from cstl_edge.data.importing.report import (
    CUT,
    DAMAGED,
    LINK,
    MISLABELLED,
    NO_FILE,
    NO_IMAGES,
    ODD_SIZE,
    SEVERAL,
    TOO_SHORT,
    Drop,
)
from cstl_edge.data.importing.safe_pickle import HostileFile, read_pickle
from cstl_edge.errors import DataError
from cstl_edge.silhouette import (
    FOREGROUND,
    SIZES,
    SMALL,
    Refusal,
    Silhouette,
    align,
    fit,
    numbered_images,
    read_image,
    refusal,
    touches_border,
)

MAX_IMAGE_BYTES = 64 * 2**20
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def check_png(file: Path) -> None:
    """Raise DataError when a checksum of a PNG is wrong or its end is missing.

    Decoders do not insist on either: a flipped bit would pass as another shape of the person.
    """
    if (size := file.stat().st_size) > MAX_IMAGE_BYTES:
        raise DataError(f"{size >> 20} MiB are more than {MAX_IMAGE_BYTES >> 20} MiB")
    data = file.read_bytes()
    at, kind = len(PNG_SIGNATURE), b""
    while data.startswith(PNG_SIGNATURE) and kind != b"IEND":
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        kind, checksum = data[at + 4 : at + 8], data[end : end + 4]
        if len(checksum) < 4:
            raise DataError(f"the image ends after {len(data)} bytes, before its end")
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(checksum, "big"):
            raise DataError(f"wrong checksum of the part {kind.decode('latin1')} at byte {at}")
        at = end + 4


class RecordingFiles:
    """Images, or the one pickle, of a recording: iterate to get a path and uint8 [H, W] of each."""

    def __init__(self, root: Path, recording: Recording, layout: Layout) -> None:
        """Open nothing yet. root: of the source, without links in its own path."""
        self.root, self.recording, self.layout = root, recording, layout
        self.count = 0  # files looked at
        self.drops: list[Drop] = []

    def __iter__(self) -> Iterator[tuple[str, Silhouette]]:
        """Yield what can be read, in the order of the numbers; HostileFile is for the caller."""
        for file in self._list():
            self.count += 1
            try:
                why = self._misplaced(file)
            except OSError as err:  # gone since it was listed, or unreadable
                self._drop(file, DAMAGED, str(err.strerror))
                continue
            if why:
                self._drop(file, why)
            else:
                yield from self._open(file)

    def _list(self) -> list[Path]:
        folder = self.root / self.recording.path
        only = self.layout.image
        try:
            images = [f for f in numbered_images(folder) if only is None or only.fullmatch(f.name)]
            pickles = [] if images else sorted(f for f in folder.iterdir() if f.suffix == ".pkl")
        except OSError as err:
            self.count += 1
            self._drop(folder, DAMAGED, str(err.strerror))
            return []
        if len(pickles) > 1:
            self.count += 1
            self._drop(folder, SEVERAL, f"{pickles[0].name}, {pickles[1].name}")
            return []
        return images or pickles

    def _open(self, file: Path) -> Iterator[tuple[str, Silhouette]]:
        path = f"{self.recording.path}/{file.name}"
        try:
            if file.suffix == ".pkl":
                frames = [(f"{path}#{i}", frame) for i, frame in enumerate(read_pickle(file))]
            else:
                check_png(file)
                frames = [(path, read_image(file, grey=True))]
        except HostileFile:
            raise
        except (DataError, MemoryError, OSError) as err:
            told = str(err.__cause__ or err) or type(err).__name__
            self._drop(file, DAMAGED, told.replace(f"{self.root}/", ""))
            return
        yield from frames

    def _misplaced(self, file: Path) -> str:
        """Return why a file must not be opened, or nothing."""
        mode = os.lstat(file).st_mode
        if stat.S_ISLNK(mode):
            if not inside(self.root, file):
                return LINK
            mode = os.stat(file).st_mode if file.exists() else 0
        if not stat.S_ISREG(mode):
            return NO_FILE  # a pipe would be waited on for ever
        label = self.layout.label.fullmatch(file.name) if self.layout.label else None
        own = self.recording
        if label and label.groups() != (own.person, own.sequence, f"{own.view_deg:03d}"):
            return MISLABELLED
        return ""

    def _drop(self, file: Path, reason: str, detail: str = "") -> None:
        path = str(file.relative_to(self.root))
        self.drops.append(Drop(path, reason, detail))


ALIGNED_FORMS = {(64, 44), (64, 64), (128, 88), (128, 128)}
Kind = Literal["casia-b", "ou-mvlp", "opengait-pkl", "gait3d", "grew", "folder"]  # of LAYOUTS
CUT_TWICE = {(64, 24), (128, 68)}  # widths of 44 and 88 that lost their margins once more
FIELD_MIN_SUM = 10_000  # of the pixels: the field takes a mask up to it for empty


class Settings(BaseModel):
    """What becomes of a source: all that the bytes of a dataset follow from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: Kind
    """How the source lies on disk."""
    size: tuple[int, int] = SMALL
    """Height and width of a silhouette in pixels."""
    min_frames: int = Field(default=1, ge=1)
    """Sequences with fewer usable frames are dropped."""
    max_frames: int = Field(default=720, ge=1)
    """Of longer sequences only the first so many usable frames are kept."""
    form: Literal["auto", "aligned", "raw"] = "auto"
    """Whether images are aligned silhouettes or masks; auto tells by their size."""
    gate: Literal["auto", "live", "field"] = "auto"
    """Which masks show a person: those of the live path, or all that published figures rest on;
    auto means the latter for the field's datasets, the former for plain folders."""
    partial: bool = False
    """Views of the dataset may be missing altogether."""

    @property
    def masks(self) -> Literal["live", "field"]:
        """The gate that is meant."""
        if self.gate == "auto":
            return "live" if self.dataset == "folder" else "field"
        return self.gate

    @field_validator("size")
    @classmethod
    def _known_size(cls, size: tuple[int, int]) -> tuple[int, int]:
        if size not in SIZES:
            raise ValueError(f"expected a size of {SIZES}, got {size}")
        return size


@dataclass(frozen=True)
class Found:
    """What a recording gave."""

    frames: Silhouette | None  # [s, h, w], None when too few are usable
    files: int  # images and pickles that were looked at
    drops: list[Drop]


@dataclass(frozen=True)
class _Frame:
    """One image: as it came when it has an aligned form, else its silhouette, or why neither.

    A mask becomes a silhouette as soon as it is read, so that a recording of large images needs no
    more memory than its silhouettes.
    """

    path: str
    form: tuple[int, ...]  # h, w as it came
    image: Silhouette | None = None
    silhouette: Silhouette | None = None
    why: str = ""


def read_recording(root: Path, recording: Recording, settings: Settings) -> Found:
    """Read one recording below the root of a source.

    Raises HostileFile on a file made to do harm, and DataError when silhouettes are aligned to
    another size than the one wanted: a wrong setting is not a number of bad files.
    """
    layout = LAYOUTS[settings.dataset]
    files = RecordingFiles(root, recording, layout)
    looks = (_look(path, image, layout.crops, settings) for path, image in files)
    frames = list(_limited(looks, recording, files.drops, settings.max_frames))
    try:
        kept = _keep(frames, files.drops, settings)
    except DataError as err:
        raise DataError(f"{recording.path}: {err}, or another --size") from err
    if not files.count:
        files.drops.append(Drop(recording.path, NO_IMAGES))
    elif len(kept) < settings.min_frames:
        detail = f"{len(kept)} usable, expected {settings.min_frames}"
        files.drops.append(Drop(recording.path, TOO_SHORT, detail))
    enough = len(kept) >= settings.min_frames
    return Found(np.stack(kept) if enough else None, files.count, files.drops)  # [s, h, w]


def why_not(mask: Silhouette, *, crops: bool, gate: str) -> Refusal | None:
    """Return why a mask [H, W] does not become a silhouette, None when it may.

    crops: images end where the person does, so that touching the border means nothing
    gate: live or field, see Settings
    """
    if gate == "live":
        return refusal(mask, clipped=not crops and touches_border(mask))
    if int(mask.sum()) <= FIELD_MIN_SUM or mask.max() < FOREGROUND:
        return Refusal.EMPTY
    return Refusal.NOT_PERSON if mask.min() >= FOREGROUND else None


def _look(path: str, image: Silhouette, crops: bool, settings: Settings) -> _Frame:
    form = image.shape
    if settings.form == "raw" or form not in ALIGNED_FORMS | CUT_TWICE:
        return _from_mask(path, image, crops, settings)
    if not image.any():
        return _Frame(path, form, why=Refusal.EMPTY.value)
    if image.min() >= FOREGROUND:
        return _Frame(path, form, why=Refusal.NOT_PERSON.value)
    return _Frame(path, form, image)


def _from_mask(path: str, mask: Silhouette, crops: bool, settings: Settings) -> _Frame:
    why = why_not(mask, crops=crops, gate=settings.masks)
    try:
        if why is None:
            return _Frame(path, mask.shape, silhouette=align(mask, settings.size))
    except DataError:  # wider than any person
        why = Refusal.NOT_PERSON
    return _Frame(path, mask.shape, why=why.value)


def _limited(
    frames: Iterable[_Frame], recording: Recording, drops: list[Drop], most: int
) -> Iterator[_Frame]:
    """Yield frames until `most` of them are usable."""
    usable = 0
    for frame in frames:
        if usable == most:
            drops.append(Drop(recording.path, CUT, f"from {frame.path} on, after {most} frames"))
            return
        usable += not frame.why
        yield frame


def _keep(frames: list[_Frame], drops: list[Drop], settings: Settings) -> list[Silhouette]:
    """Return the silhouettes [h, w] of the frames that stay; the others are dropped."""
    forms = Counter(f.form for f in frames if f.form in ALIGNED_FORMS | CUT_TWICE)
    form, count = forms.most_common(1)[0] if forms else ((), 0)
    forced = settings.form == "aligned" and bool(frames)
    if not forced and (settings.form == "raw" or 2 * count <= len(frames)):
        crops = LAYOUTS[settings.dataset].crops
        masks = (f if f.image is None else _from_mask(f.path, f.image, crops, settings)
                 for f in frames)  # fmt: skip
        return [f.silhouette for f in masks if _stays(f, f.why, drops) and f.silhouette is not None]
    _check_form(form or frames[0].form, settings.size)
    same = (f for f in frames if _stays(f, f.why if f.form == form else ODD_SIZE, drops))
    return [fit(f.image[None], settings.size)[0] for f in same if f.image is not None]


def _stays(frame: _Frame, why: str, drops: list[Drop]) -> bool:
    if why:
        drops.append(Drop(frame.path, why))
    return not why


def _check_form(form: tuple[int, ...], size: tuple[int, int]) -> None:
    """Raise DataError when aligned silhouettes of a form cannot be cut to a size."""
    if form in CUT_TWICE:
        raise DataError(
            f"silhouettes of {form[0]}x{form[1]} have lost their margins twice; expected "
            f"{size[0]}x{size[1]} or {size[0]}x{size[0]}. Give them as they were before"
        )
    fit(np.zeros((1, *form), np.uint8), size)
