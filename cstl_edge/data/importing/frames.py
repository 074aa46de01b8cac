"""Reading of one recording: from untrusted images or a pickle to aligned silhouettes.

Files are opened one by one; what cannot be used is dropped with its reason. Images of one of the
aligned forms (64x44, 64x64, 128x88, 128x128) are taken as they are when they are the majority of
their recording: never realigned, cropped to the width by `silhouette.crop_aligned`, dropped only
when they are all black or all white. All others are masks: the mask rule (live or field) decides
which of them show a person, and `silhouette.align` makes the silhouette. Letters: `s` frames, `h w`
pixels.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cstl_edge.arrays import Mask, Silhouettes
from cstl_edge.data.importing import report
from cstl_edge.data.importing.layouts.base import Layout, SourceRecording, is_inside
from cstl_edge.data.importing.report import Drop
from cstl_edge.data.importing.safe_pickle import HostileFile, read_pickle
from cstl_edge.data.importing.settings import PrepareSettings
from cstl_edge.errors import DataError
from cstl_edge.foreign import fault
from cstl_edge.silhouette import (
    ALIGNED_FORMS,
    FOREGROUND,
    Refusal,
    align,
    crop_aligned,
    implausible,
    numbered_images,
    read_image,
    refusal,
    scale_two_valued,
    touches_border,
)

MAX_IMAGE_BYTES = 64 * 2**20
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
CROPPED_TWICE = {(64, 24), (128, 68)}  # widths of 44 and 88 that lost their margins once more
FIELD_MIN_SUM = 10_000  # of the pixels: the field takes a mask up to it for empty


class RecordingFrames(NamedTuple):
    """Silhouettes of one recording, and what was dropped of it."""

    frames: Silhouettes | None  # [s, h, w], None when too few are usable
    files: int  # images and pickles that were read
    drops: list[Drop]


class _Frame(NamedTuple):
    """One image: as it came when it has an aligned form, else its silhouette, or why neither.

    A mask becomes a silhouette as soon as it is read, so that a recording of large images needs no
    more memory than its silhouettes.
    """

    path: str
    form: tuple[int, ...]  # h, w as it came
    image: Silhouettes | None = None
    silhouette: Silhouettes | None = None
    fault: str = ""


@dataclass(frozen=True)
class RecordingReader:
    """Reader of a source's recordings."""

    root: Path  # of the source, without links in its own path
    settings: PrepareSettings  # size, form, mask rule and limits
    layout: Layout  # an object, since a worker's table may lack an added entry

    def read(self, recording: SourceRecording) -> RecordingFrames:
        """Read one recording.

        Raises HostileFile for a file made to do harm, DataError when silhouettes are aligned to
        another size than the wanted one: a wrong setting is not a number of bad files.
        """
        files = _RecordingFiles(self.root, recording, self.layout)
        frames = list(self._until_enough(files))
        try:
            silhouettes = self._usable(frames, files.drops)
        except DataError as err:
            raise DataError(f"{recording.path}: {err}, or another --size") from err
        least = self.settings.min_frames
        if not files.count:
            files.drops.append(Drop(recording.path, report.NO_IMAGES))
        elif silhouettes and (reason := implausible(np.stack(silhouettes))):
            files.drops.append(Drop(recording.path, report.NO_SILHOUETTES, reason))
            silhouettes = []
        elif len(silhouettes) < least:
            detail = f"{len(silhouettes)} usable, expected {least}"
            files.drops.append(Drop(recording.path, report.TOO_SHORT, detail))
        enough = len(silhouettes) >= max(1, least)
        stacked = np.stack(silhouettes) if enough else None  # [s, h, w]
        return RecordingFrames(stacked, files.count, files.drops)

    def _until_enough(self, files: _RecordingFiles) -> Iterator[_Frame]:
        """Yield frames until the most of them that settings allow are usable."""
        usable, most = 0, self.settings.max_frames
        for frame in (self._examine(path, image) for path, image in _scaled(files)):
            if usable == most:
                detail = f"from {frame.path} on, after {most} frames"
                files.drops.append(Drop(files.recording.path, report.CUT, detail))
                return
            usable += not frame.fault
            yield frame

    def _examine(self, path: str, image: Mask) -> _Frame:
        form = image.shape
        if self.settings.form == "raw" or form not in ALIGNED_FORMS | CROPPED_TWICE:
            return self._from_mask(path, image)
        if not image.any():
            return _Frame(path, form, fault=Refusal.EMPTY.value)
        if image.min() >= FOREGROUND:
            return _Frame(path, form, fault=Refusal.NOT_PERSON.value)
        return _Frame(path, form, image)

    def _from_mask(self, path: str, mask: Mask) -> _Frame:
        reason = self._mask_refusal(mask)
        try:
            if reason is None:
                return _Frame(path, mask.shape, silhouette=align(mask, self.settings.size))
        except DataError:  # wider than any person
            reason = Refusal.NOT_PERSON
        return _Frame(path, mask.shape, fault=reason.value)

    def _mask_refusal(self, mask: Mask) -> Refusal | None:
        """Return the reason why a mask [H, W] does not become a silhouette, None when it may."""
        if self.settings.mask_rule == "live":
            return refusal(mask, clipped=not self.layout.cropped and touches_border(mask))
        if int(mask.sum()) <= FIELD_MIN_SUM or mask.max() < FOREGROUND:
            return Refusal.EMPTY
        return Refusal.NOT_PERSON if mask.min() >= FOREGROUND else None

    def _usable(self, frames: list[_Frame], drops: list[Drop]) -> list[Silhouettes]:
        """Return the silhouettes [h, w] of usable frames; add the others to `drops`."""
        wanted, size = self.settings.form, self.settings.size
        forms = Counter(f.form for f in frames if f.form in ALIGNED_FORMS | CROPPED_TWICE)
        form, count = forms.most_common(1)[0] if forms else ((), 0)
        forced = wanted == "aligned" and bool(frames)
        if not forced and (wanted == "raw" or 2 * count <= len(frames)):
            frames = [f if f.image is None else self._from_mask(f.path, f.image) for f in frames]
            usable = [f.silhouette for f in frames if f.silhouette is not None]
        else:
            _check_form(form or frames[0].form, size)
            odd = report.ODD_SIZE
            frames = [f if f.form == form else _Frame(f.path, f.form, fault=odd) for f in frames]
            images = [f.image for f in frames if f.image is not None]
            usable = [crop_aligned(image[None], size)[0] for image in images]
        drops += [Drop(f.path, f.fault) for f in frames if f.fault]
        return usable


def _scaled(files: _RecordingFiles) -> Iterator[tuple[str, Mask]]:
    """Yield images with 0 and 1 taken as 0 and 255, and note it once for the recording."""
    noted = False
    for path, image in files:
        scaled, value = scale_two_valued(image)
        if value is not None and not noted:
            files.drops.append(Drop(files.recording.path, report.SCALED, f"{path} has {value}"))
            noted = True
        yield path, scaled


class _RecordingFiles:
    """Images, or the one pickle, of a recording: iterate to get a path and uint8 [H, W] of each."""

    def __init__(self, root: Path, recording: SourceRecording, layout: Layout) -> None:
        self.root, self.recording, self.layout = root, recording, layout
        self.count = 0  # files read
        self.drops: list[Drop] = []

    def __iter__(self) -> Iterator[tuple[str, Mask]]:
        """Yield readable images in the order of their numbers; HostileFile is for the caller."""
        for file in self._list():
            self.count += 1
            try:
                reason = self._misplaced(file)
            except OSError as err:  # gone since it was listed, or unreadable
                self._drop(file, report.DAMAGED, str(err.strerror))
                continue
            if reason:
                self._drop(file, reason)
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
            self._drop(folder, report.DAMAGED, str(err.strerror))
            return []
        if len(pickles) > 1:
            self.count += 1
            self._drop(folder, report.SEVERAL, f"{pickles[0].name}, {pickles[1].name}")
            return []
        return images or pickles

    def _open(self, file: Path) -> Iterator[tuple[str, Mask]]:
        path = f"{self.recording.path}/{file.name}"
        try:
            if file.suffix == ".pkl":
                frames = [(f"{path}#{i}", frame) for i, frame in enumerate(read_pickle(file))]
            else:
                _check_png(file)
                frames = [(path, read_image(file, grey=True))]
        except HostileFile:
            raise
        except (DataError, MemoryError, OSError) as err:
            reason = fault(err.__cause__ or err)
            self._drop(file, report.DAMAGED, reason.replace(f"{self.root}/", ""))
            return
        yield from frames

    def _misplaced(self, file: Path) -> str:
        """Return the reason why a file must not be opened, or nothing."""
        mode = os.lstat(file).st_mode
        if stat.S_ISLNK(mode):
            if not is_inside(self.root, file):
                return report.LINK
            mode = os.stat(file).st_mode if file.exists() else 0
        if not stat.S_ISREG(mode):
            return report.NO_FILE  # reading a pipe would wait for ever
        label = self.layout.label.fullmatch(file.name) if self.layout.label else None
        named = self.recording
        if label and label.groups() != (named.person, named.sequence, f"{named.view_deg:03d}"):
            return report.MISLABELLED
        return ""

    def _drop(self, file: Path, reason: str, detail: str = "") -> None:
        self.drops.append(Drop(str(file.relative_to(self.root)), reason, detail))


def _check_png(file: Path) -> None:
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


def _check_form(form: tuple[int, ...], size: tuple[int, int]) -> None:
    """Raise DataError when aligned silhouettes of a form cannot be cropped to a size."""
    if form in CROPPED_TWICE:
        raise DataError(
            f"silhouettes of {form[0]}x{form[1]} have lost their margins twice; expected "
            f"{size[0]}x{size[1]} or {size[0]}x{size[0]}. Give them as they were before"
        )
    crop_aligned(np.zeros((1, *form), np.uint8), size)
