"""The files of one recording, opened one by one; what cannot be used is dropped with its reason."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

from cstl_edge.data.layouts import Layout
from cstl_edge.data.pickles import HostileFile, read_pickle
from cstl_edge.data.report import DAMAGED, LINK, MISLABELLED, NO_FILE, SEVERAL, Drop
from cstl_edge.data.trees import Recording, inside
from cstl_edge.errors import DataError
from cstl_edge.silhouette import Silhouette, numbered_images, read_image

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
