"""One call of `cstl-edge bench`: the context, the scenarios in turn, every row written at once."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from cstl_edge.bench import model_under_test
from cstl_edge.bench.context import DEFAULT, FULL, SHORT, Context
from cstl_edge.bench.record import Row, Scenario, write_rows
from cstl_edge.errors import BackendUnavailable, ConfigError, CstlEdgeError, one_line
from cstl_edge.measure.environment import environment
from cstl_edge.runtime.base import usable_cores

log = logging.getLogger(__name__)

SCENARIOS = (
    "roofline",
    "graph",
    "single",
    "multi",
    "offline",
    "end_to_end",
    "accuracy",
    "power",
)
"""Modules of this package with a function `rows(context)`, in the order in which they run."""
RESULTS = Path("runs") / "bench"


@dataclass(frozen=True)
class BenchOptions:
    """What the command line asks for."""

    model: Path | None = None
    """An exported folder; by default the shipped model, exported in all precisions."""
    weights: Path | None = None
    network: str = "shipped"
    scenarios: Sequence[str] = ()
    """All where none is named."""
    short: bool = False
    full: bool = False
    threads: int | None = None
    """By default the cores we may use, up to 4."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant (ConfigError)."""
        for name in self.scenarios:
            if name not in SCENARIOS:
                expected = ", ".join(SCENARIOS)
                raise ConfigError(f"expected --scenario of {expected}; got {one_line(name)!r}")
        if self.short and self.full:
            raise ConfigError("--short and --full contradict each other: choose one")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"expected at least 1 thread; got {self.threads}")


def make_context(wish: BenchOptions, tell: Callable[[str], None]) -> Context:
    """Return what the scenarios are given (ConfigError, ModelError).

    The long and the default form export what the shipped folder lacks, once; the short one takes
    what is there.
    """
    folder, weights, engines = model_under_test.choose_model(
        wish.model, wish.weights, wish.network, not wish.short, tell
    )
    return Context(
        run=f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(2)}",
        folder=folder,
        weights=weights,
        subject=model_under_test.describe_model(folder, trained=wish.network != "paper"),
        threads=wish.threads or usable_cores(),
        budget=SHORT if wish.short else FULL if wish.full else DEFAULT,
        full=wish.full,
        short=wish.short,
        tell=tell,
        environment=environment(),
        engines=engines,
    )


def results_file(context: Context) -> Path:
    """Return where the rows of a call go when nobody says."""
    return RESULTS / f"{context.run}.jsonl"


def run(context: Context, scenarios: Sequence[str], out: Path) -> Iterator[Row]:
    """Yield the rows of the scenarios, each written to `out` as soon as it is there.

    A scenario that fails by an error of ours leaves a row that says so, and the next one begins.
    Raises BackendUnavailable at the end when nothing was measured.
    """
    measured, reason = 0, "no scenario has a row"
    for name in scenarios or SCENARIOS:
        start = time.perf_counter()
        for row in _rows(context, name):
            write_rows(out, [row])
            yield row
            measured += row.skipped is None
            reason = row.skipped or reason
        context.tell(f"{name}: {time.perf_counter() - start:.0f} s")
    if not measured:
        raise BackendUnavailable(f"nothing was measured: {reason}")


def _rows(context: Context, name: str) -> Iterator[Row]:
    scenario = import_module(f"cstl_edge.bench.scenarios.{name}")
    try:
        yield from scenario.rows(context)
    except CstlEdgeError as err:
        log.debug("%s", name, exc_info=True)
        yield Row(
            run=context.run,
            scenario=cast(Scenario, name),
            contender="all",
            subject=context.subject,
            skipped=str(err),
            environment=context.environment,
        )
