"""Folders of silhouettes as a user has them: one walk, or a folder of walks."""

from __future__ import annotations

from pathlib import Path

from cstl_edge.errors import DataError, one_line
from cstl_edge.silhouette import Silhouette, numbered_images, read_silhouettes


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
