"""From which frame each part was chosen, in red boxes: the paper's Fig. 7. Letters: `s` frames."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cstl_edge.errors import ConfigError, DataError, ModelError, one_line
from cstl_edge.evaluation.heldout import EVERYBODY, held_out
from cstl_edge.runtime.base import Encoder
from cstl_edge.silhouette import Silhouette, read_silhouettes

Picture = npt.NDArray[np.uint8]  # [H, W, 3] BGR

SEQUENCE = re.compile(r"(\d{1,9})/([\w-]+)/(\d{1,3})", re.ASCII)


def find_sequence(text: str, data: str, size: tuple[int, int]) -> Silhouette:
    """Return one walk, uint8 [s, h, w].

    text: a folder of images or a .npy file, or PERSON/SEQUENCE/VIEW such as 910000/bg-01/90, a
        sequence of `data`
    Raises DataError when there is no such sequence, ConfigError for a text that is neither.
    """
    if Path(text).exists():
        return read_silhouettes(text, size)
    found = SEQUENCE.fullmatch(text)
    if not found:
        raise ConfigError(
            "expected a folder of silhouettes or PERSON/SEQUENCE/VIEW such as 910000/bg-01/90; "
            f"got {one_line(text)!r}"
        )
    held = held_out(data, size, EVERYBODY)
    known = held.data
    same = (known.people == int(found[1])) & (known.sequences == found[2])
    row = np.flatnonzero(same & (known.views_deg == int(found[3])))
    if not row.size:
        raise DataError(
            f"no sequence {text} in {held.said}; expected a person of {known.people.min()} to "
            f"{known.people.max()}, a recording such as {known.sequences[0]} and a view such as "
            f"{known.views_deg[0]}"
        )
    return known.read(int(row[0]))


def picture(encoder: Encoder, silhouettes: Silhouette, *, columns: int = 10) -> Picture:
    """Return the frames of one walk with red boxes around the parts that were chosen from them.

    silhouettes: uint8 [s, h, w]
    Raises ModelError for a network without SSFL, which chooses nothing.
    """
    from cstl_edge.live.draw import salient_parts

    chosen = encoder.encode(silhouettes[None]).salient_frames[0]  # [p]
    if (chosen < 0).all():
        raise ModelError(
            f"model {one_line(encoder.info.model_name)!r} has no SSFL and chooses no frames. Give "
            "one that was trained with model.salient true"
        )
    return salient_parts(
        silhouettes, chosen, columns=columns, zoom=2 if silhouettes.shape[1] > 64 else 3
    )
