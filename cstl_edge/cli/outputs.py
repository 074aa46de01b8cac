"""Outputs of verbs, refused before any work where they would destroy something."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from cstl_edge.output import IsOurs, Outputs


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
