"""Outputs of verbs, refused before any work where they would destroy something."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from cstl_edge.output import IsOurs, JsonLines, Outputs


def claim(
    inputs: Iterable[str | Path | None],
    path: Path | None,
    option: str,
    overwrite: bool,
    suffixes: Sequence[str] = (),
    *,
    is_ours: IsOurs | None = None,
    is_folder: bool = False,
) -> None:
    """Refuse the one output of a verb that is an input, exists, or has another suffix.

    Args:
        inputs: Files and folders that the verb reads.
        path: Of the output; None where there is none.
        option: That names it.
        overwrite: Whether a file that exists may be replaced.
        suffixes: Of its format; any where there are none.
        is_ours: For JSON lines, which are appended to a file of ours.
        is_folder: Whether the output is a folder.

    Raises:
        ConfigError: Of these.
    """
    if path is not None:
        Outputs(inputs, overwrite=overwrite).claim(
            path, option, suffixes=suffixes, is_ours=is_ours, is_folder=is_folder
        )


def record_lines(path: Path, is_ours: IsOurs, overwrite: bool) -> JsonLines:
    """Open a file of records to append to; with `overwrite` one that is not ours is emptied.

    Args:
        path: Of the file.
        is_ours: Tells a line of this verb.
        overwrite: Whether another file may be replaced.

    Raises:
        StorageError: The disk refuses.
    """
    return JsonLines(path, overwrite_foreign=is_ours if overwrite else None, mode=0o644)
