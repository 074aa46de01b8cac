"""Context of one call of `cstl-edge bench`, which every scenario receives, and its budgets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cstl_edge.bench.record import ModelUnderTest, Row


@dataclass(frozen=True)
class Budget:
    """Durations and counts of measurements."""

    warm_up_s: float = 0.2
    seconds: float = 0.6  # least duration of a row's samples
    samples: int = 10  # least number of a row's samples
    search_s: float = 2.0  # duration of a trial with one number of walkers
    people: int = 6  # walkers on whom accuracy is measured


# The short form is for CI: does everything run? Its times are hints.
SHORT_BUDGET = Budget(warm_up_s=0.05, seconds=0.1, samples=3, search_s=0.4, people=2)
DEFAULT_BUDGET = Budget()
"""All scenarios within 5 minutes of 2 cores, an export of half a minute among them."""
FULL_BUDGET = Budget(seconds=3.0, samples=30, search_s=8.0, people=50)
"""trtexec's least duration, and enough samples for a p90."""


@dataclass(frozen=True)
class Context:
    """One call of `cstl-edge bench`."""

    run: str  # identifies the call; see `Row.run`
    folder: Path
    """The exported model, with frames.onnx and head.onnx in every precision that it holds."""
    weights: Path | None  # its checkpoint, for PyTorch; None where torch or the file is missing
    model: ModelUnderTest
    threads: int
    budget: Budget
    full: bool = False  # the long form (`--full`)
    progress: Callable[[str], None] = print
    """Receives lines of narration; the command line writes them to stderr."""
    environment: dict[str, Any] = field(default_factory=dict)
    engines: Path | None = None
    """Another exported model of the same weights that holds this machine's engines: the shipped one
    while `folder` is an export made for the suite."""
    short: bool = False  # the form for CI (`--short`): nothing that takes seconds to prepare

    def row(self, scenario: str, backend: str, **fields: Any) -> Row:
        """Return a row of this call.

        Args:
            scenario: Name of the scenario.
            backend: Name of the backend under test; stored as `contender`.
            fields: Further fields of `Row`, which win over those of the call.
        """
        call: dict[str, Any] = {"subject": self.model, "environment": self.environment}
        return Row(run=self.run, scenario=scenario, contender=backend, **call | fields)
