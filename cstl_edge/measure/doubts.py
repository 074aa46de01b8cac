"""What figures are in doubt for, in trtexec's manner: one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def doubts(
    samples: Mapping[str, Sequence[float]],
    dropped: Mapping[str, int],
    conditions: Mapping[str, Any],
    *,
    paced_hz: float | None = None,
) -> list[str]:
    """Return the warnings that belong to samples [ms]."""
    return []
