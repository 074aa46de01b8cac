"""Run the scenarios of one call of `cstl-edge bench` and write each row at once."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cstl_edge.bench.context import DEFAULT_BUDGET, FULL_BUDGET, SHORT_BUDGET, Context
from cstl_edge.bench.model_under_test import choose_model, describe_model
from cstl_edge.bench.record import Row, write_rows
from cstl_edge.bench.scenarios.open import SCENARIOS
from cstl_edge.errors import BackendUnavailable, ConfigError, CstlEdgeError
from cstl_edge.measure.environment import environment
from cstl_edge.runtime.base import usable_cores

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchOptions:
    """Options of one call, as the command line takes them."""

    model: Path | None = None
    """An exported folder; by default the shipped model, exported in all precisions."""
    weights: Path | None = None
    network: str = "shipped"
    scenarios: Sequence[str] = ()  # empty runs all
    short: bool = False
    full: bool = False
    threads: int | None = None  # by default the cores we may use, up to 4

    def __post_init__(self) -> None:
        """Refuse contradictions and unknown scenarios (ConfigError)."""
        for name in self.scenarios:
            SCENARIOS.canonical(name)
        if self.short and self.full:
            raise ConfigError("--short and --full contradict each other: choose one")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"expected at least 1 thread; got {self.threads}")


def make_context(options: BenchOptions, progress: Callable[[str], None]) -> Context:
    """Return the context that the scenarios receive (ConfigError, ModelError).

    The long and the default form export what the shipped folder lacks, once; the short one takes
    what is there.
    """
    folder, weights, engines = choose_model(
        options.model, options.weights, options.network, not options.short, progress
    )
    return Context(
        run=f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(2)}",
        folder=folder,
        weights=weights,
        model=describe_model(folder, trained=options.network != "paper"),
        threads=options.threads or usable_cores(),
        budget=SHORT_BUDGET if options.short else FULL_BUDGET if options.full else DEFAULT_BUDGET,
        full=options.full,
        short=options.short,
        progress=progress,
        environment=environment(),
        engines=engines,
    )


def results_file(context: Context) -> Path:
    """Return the default file of a call's rows."""
    return Path("runs") / "bench" / f"{context.run}.jsonl"


def run(context: Context, scenarios: Sequence[str], out: Path) -> Iterator[Row]:
    """Yield the rows of scenarios, each appended to a file before it is yielded.

    A scenario that fails with a CstlEdgeError leaves a row with the reason, and the next one runs.

    Args:
        context: Context of the call.
        scenarios: Names of the table `SCENARIOS`; empty runs all.
        out: File of JSON lines.

    Raises:
        BackendUnavailable: At the end, when nothing was measured.
    """
    measured, reason = 0, "no scenario has a row"
    for name in scenarios or SCENARIOS:
        start = time.perf_counter()
        for row in _rows(context, name):
            write_rows(out, [row])
            yield row
            measured += row.skipped is None
            reason = row.skipped or reason
        context.progress(f"{name}: {time.perf_counter() - start:.0f} s")
    if not measured:
        raise BackendUnavailable(f"nothing was measured: {reason}")


def _rows(context: Context, name: str) -> Iterator[Row]:
    try:
        yield from SCENARIOS.load(name)(context)
    except CstlEdgeError as err:
        log.debug("%s", name, exc_info=True)
        yield context.row(name, "all", skipped=str(err))
