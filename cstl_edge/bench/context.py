"""What every scenario of the suite is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cstl_edge.bench.record import ModelUnderTest


@dataclass(frozen=True)
class Budget:
    """How long things are measured."""

    warm_up_s: float = 0.2
    seconds: float = 0.6
    """At least so long per row of times."""
    samples: int = 10
    """And at least so many."""
    search_s: float = 2.0
    """Per number of walkers tried."""
    people: int = 6
    """Walkers on whom accuracy is measured."""


# The short form is for CI: does everything run? Its times are hints.
SHORT = Budget(warm_up_s=0.05, seconds=0.1, samples=3, search_s=0.4, people=2)
DEFAULT = Budget()
"""All scenarios within 5 minutes of 2 cores, an export of half a minute among them."""
FULL = Budget(seconds=3.0, samples=30, search_s=8.0, people=50)
"""trtexec's least duration, and enough samples for a p90."""


@dataclass(frozen=True)
class Context:
    """One call of `cstl-edge bench`."""

    run: str
    """Names the call; see `Row.run`."""
    folder: Path
    """The exported model, with frames.onnx and head.onnx in every precision that it holds."""
    weights: Path | None
    """Its checkpoint, for PyTorch; None where torch or the file is missing."""
    subject: ModelUnderTest
    threads: int
    budget: Budget
    full: bool = False
    """Whether the long form was asked for."""
    tell: Callable[[str], None] = print
    """Narrates to stderr."""
    environment: dict[str, Any] = field(default_factory=dict)
    engines: Path | None = None
    """Another exported model of the same weights, whose engines are this machine's: the shipped one
    while `folder` is an export made for the suite."""
    short: bool = False
    """Whether the form for CI was asked for: nothing that takes seconds to prepare."""
