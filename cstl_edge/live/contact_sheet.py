"""Contact sheets: a few pictures of each walker of a run, to choose between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cstl_edge.arrays import Image
from cstl_edge.live.annotate import WalkerView
from cstl_edge.live.boxes import Box
from cstl_edge.opencv import import_cv2
from cstl_edge.output import PRIVATE, write_file

cv2 = import_cv2()

MOST_PICTURES = 6  # of a walker
MARGIN = 0.1  # around a box, as a share of its height
HEIGHT_PX, WIDTH_PX = 200, 120  # of a picture
GROUND = 30  # grey around a picture


@dataclass
class _Strip:
    pictures: list[Image] = field(default_factory=list)
    every: int = 1  # frames between pictures
    seen: int = 0


class ContactSheets:
    """Keeps pictures of every walker, spread over the walk; an observer of a run."""

    def __init__(self) -> None:
        """Begin without pictures."""
        self._strips: dict[int, _Strip] = {}

    def see(self, image: Image, walkers: Sequence[WalkerView]) -> None:
        """Take a frame.

        Args:
            image: uint8 [H, W, 3], BGR.
            walkers: Who is in it.
        """
        for walker in walkers:
            strip = self._strips.setdefault(walker.track, _Strip())
            if strip.seen % strip.every == 0 and (picture := _cut(image, walker.box)) is not None:
                strip.pictures.append(picture)
                if len(strip.pictures) > MOST_PICTURES:  # every other one goes
                    strip.pictures = strip.pictures[::2]
                    strip.every *= 2
            strip.seen += 1

    def write(self, folder: Path, track: int) -> Path | None:
        """Write the sheet of a walker, for its owner alone; None where nothing was seen of it.

        Args:
            folder: Of the sheet `track-N.png`.
            track: Number of the walker.

        Raises:
            StorageError: The disk refuses.
        """
        strip = self._strips.get(track)
        if strip is None or not strip.pictures:
            return None
        content = cv2.imencode(".png", np.hstack(strip.pictures))[1].tobytes()
        return write_file(folder / f"track-{track}.png", content, mode=PRIVATE)


def _cut(image: Image, box: Box) -> Image | None:
    """Return the part of a frame around a box, fitted into one picture; None for an empty one."""
    x, y, w, h = box
    margin = MARGIN * h
    left, top = max(round(x - margin), 0), max(round(y - margin), 0)
    right, bottom = round(x + w + margin), round(y + h + margin)
    part = image[top : max(bottom, 0), left : max(right, 0)]
    if not part.size:
        return None
    scale = min(HEIGHT_PX / part.shape[0], WIDTH_PX / part.shape[1])
    width, height = (max(1, round(side * scale)) for side in part.shape[1::-1])
    picture = np.full((HEIGHT_PX, WIDTH_PX, 3), GROUND, np.uint8)
    at_x, at_y = (WIDTH_PX - width) // 2, (HEIGHT_PX - height) // 2
    picture[at_y : at_y + height, at_x : at_x + width] = cv2.resize(part, (width, height))
    return picture
