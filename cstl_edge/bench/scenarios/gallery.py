"""Scenario `gallery`: one search among 1,000 to 1,000,000 templates, on one core, made-up people.

A row per size and way: `exact float32` compares all templates, `exact 8-bit` multiplies integers
first (the same answer; above 2,048 templates), `two stages` chooses by short vectors (above 50,000;
extra `index`). --full adds 100,000 and 1,000,000 templates, which take 7 GB.

`values`: `templates`, `us_per_1000_templates`, `prepare_s` (CPU), `recall` (of the person nearest
among all templates)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import numpy as np

from cstl_edge.arrays import Floats
from cstl_edge.bench.context import Context
from cstl_edge.bench.gallery_crowds import make_gallery
from cstl_edge.bench.record import Row
from cstl_edge.errors import CstlEdgeError
from cstl_edge.gallery.index import FAST_FROM, TemplateIndex
from cstl_edge.gallery.large_index import LARGE_FROM
from cstl_edge.measure.timing import measure_interleaved

SHORT_SIZES, SIZES = (1_000, 2_500), (1_000, 10_000)
FULL_SIZES = (1_000, 10_000, 100_000, 1_000_000)
MOST_EXACT = 100_000  # templates that are compared one by one: their float32 is in memory
DIMENSIONS = 128  # of a part, as the shipped model's; those of another are not in its record
SEARCHES = 20  # whose answers are compared


def rows(context: Context) -> Iterator[Row]:
    """Yield the rows of each size, its ways measured in turn."""
    sizes = FULL_SIZES if context.full else SHORT_SIZES if context.short else SIZES
    for size in sizes:
        context.progress(f"gallery: {size:,} templates")
        yield from _one_size(context, size)


def _one_size(context: Context, size: int) -> Iterator[Row]:
    people = make_gallery(size, context.model.parts, DIMENSIONS)
    ways: dict[str, Callable[[], TemplateIndex]] = {}
    if size <= MOST_EXACT:
        ways["exact float32"] = people.exact
    if FAST_FROM <= size <= MOST_EXACT:
        ways["exact 8-bit"] = people.fast
    if size > LARGE_FROM:
        ways["two stages"] = people.large
    queries = people.visits(np.arange(SEARCHES) * (people.people // SEARCHES), 1)
    indexes, prepared_s = dict[str, TemplateIndex](), dict[str, float]()
    for name, make in ways.items():
        start = time.process_time()
        try:
            indexes[name] = make()
        except CstlEdgeError as err:
            yield context.row("gallery", f"{name}, {size:,} templates", skipped=str(err))
            continue
        prepared_s[name] = time.process_time() - start
    budget = context.budget
    calls = {name: partial(_search, index, cycle(queries)) for name, index in indexes.items()}
    timings = measure_interleaved(
        calls, warm_up_s=budget.warm_up_s, seconds=budget.seconds, samples=budget.samples
    )
    nearest = {name: [_nearest(index, q) for q in queries] for name, index in indexes.items()}
    exactly, _ = people.exact_nearest(queries)
    for name, timing in timings.items():
        wall = timing.samples["wall"]
        values = {
            "templates": float(size),
            "us_per_1000_templates": float(np.median(wall or [0])) * 1e6 / size,
            "prepare_s": prepared_s[name],
            "recall": float(np.mean(np.equal(nearest[name], exactly))),
        }
        yield context.row(
            "gallery",
            f"{name}, {size:,} templates",
            samples=timing.samples,
            values=values,
            dropped=timing.dropped,
            conditions=timing.conditions,
            warnings=timing.warnings,
        )


def _search(index: TemplateIndex, queries: Iterator[Floats]) -> None:
    """Search for the next of some walks."""
    index.nearest(next(queries)[None], 2)


def _nearest(index: TemplateIndex, query: Floats) -> int:
    return int(np.argmin(index.nearest(query[None], 2)))
