"""Read the exports of NVIDIA's trtexec as rows, and compare ours with them stage by stage.

`--exportTimes` gives one object per query: stamps (`startComputeMs`, ...) and durations (`h2dMs`,
`computeMs`, `d2hMs`, `latencyMs`, their sum). TensorRT 7 writes `in` and `out` for `h2d` and `d2h`,
and has no stamps of the enqueue. `--exportProfile` gives `{"count": runs}` and then one object per
layer: `timeMs` over all runs, `averageMs`, `percentage`, from 8.4 on `medianMs`. Warm-up is in
neither. Facts from `samples/common/sampleReporting.cpp` of TensorRT 7.0 to 11.1.

The files may come from anybody: sizes, types and numbers are checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, NoReturn, cast

from cstl_edge.bench.record import Case, Row
from cstl_edge.errors import DataError, one_line
from cstl_edge.foreign import load_json, parsing, read_bytes
from cstl_edge.measure.stats import percentile
from cstl_edge.measure.warnings import measurement_warnings

TRTEXEC_FILE = "a file of trtexec, JSON as it exports it"
LARGEST = 64 << 20  # bytes of a file; 3 s of a 0.1 ms query are 10 MB
NAMES = {
    "h2d": ("h2dMs", "inMs"),
    "compute": ("computeMs",),
    "d2h": ("d2hMs", "outMs"),
    "latency": ("latencyMs",),
}
STAMPS = {
    "start": ("startH2dMs", "startInMs"),
    "end": ("endD2hMs", "endOutMs"),
    "compute start": ("startComputeMs",),
    "compute end": ("endComputeMs",),
}
ENQUEUE = ("startEnqMs", "endEnqMs")
DIGITS = 6  # of a number that a C++ stream writes
STAGES = ("h2d", "compute", "d2h", "enqueue", "latency")


def read_times(
    path: str | Path, *, run: str, backend: str = "trtexec", case: Case | None = None
) -> Row:
    """Read a file of `--exportTimes` (DataError).

    Args:
        path: Path of the file.
        run: Identifier of the call, for the row.
        backend: Name of the backend under test, as in our rows.
        case: Case of the row.

    Returns:
        A row with samples `h2d`, `compute`, `d2h`, `latency` and, where stamped, `enqueue` [ms],
        and value `queries_per_s` as trtexec counts it: over the time from the first query's first
        copy to the last query's end.
    """
    queries = _objects(path)
    samples = {stage: [_number(path, x, names) for x in queries] for stage, names in NAMES.items()}
    stamps = {key: [_number(path, x, names) for x in queries] for key, names in STAMPS.items()}
    warnings = [*_parallel(stamps)]
    if all(name in query for query in queries for name in ENQUEUE):
        samples["enqueue"] = [_enqueue(path, query) for query in queries]
        warnings = [*_coarse(queries, samples["enqueue"]), *warnings]
    wall_ms = stamps["end"][-1] - stamps["start"][0]
    if wall_ms <= 0:
        _refuse(path, "queries in the order of their time", f"{wall_ms:g} ms from first to last")
    fields = {"samples": samples, "warnings": [*measurement_warnings(samples), *warnings]}
    values = {"queries_per_s": 1e3 * len(queries) / wall_ms}
    return _row(run, backend, case, values, {"kind": "times"}, **fields)


def read_profile(
    path: str | Path, *, run: str, backend: str = "trtexec", case: Case | None = None
) -> Row:
    """Read a file of `--exportProfile` (DataError).

    Args:
        path: Path of the file.
        run: Identifier of the call, for the row.
        backend: Name of the backend under test, as in our rows.
        case: Case of the row.

    Returns:
        A row with values `profiled_runs` and `layers_ms` (sum of the layers' averages), and
        `details["layers"]`: name, time_ms, average_ms, median_ms (or none), percentage.
    """
    head, *entries = _objects(path)
    runs = _number(path, head, ("count",))
    if runs < 1 or not entries:
        _refuse(path, "at least one run and one layer", f"{runs:g} and {len(entries)}")
    layers = [_layer(path, entry) for entry in entries]
    values = {"profiled_runs": runs, "layers_ms": sum(x["average_ms"] for x in layers)}
    return _row(run, backend, case, values, {"kind": "profile", "layers": layers})


class StageComparison(NamedTuple):
    """One stage, measured by us and by trtexec."""

    stage: str
    ours_ms: float  # median
    theirs_ms: float
    ratio: float | None  # ours / theirs; None where theirs is 0 (no copies)
    ours_p99_ms: float
    theirs_p99_ms: float


def compare_stages(ours: Row, theirs: Row) -> list[StageComparison]:
    """Compare our times of an engine with trtexec's, stage by stage (DataError: none in common).

    Our `latency` is computed like theirs: the sum of both copies and the computation per sample;
    what a CUDA graph takes is compared with it, since the graph holds the copies.
    """
    own_stages = _comparable(ours.samples)
    both = [stage for stage in STAGES if own_stages.get(stage) and theirs.samples.get(stage)]
    if not both:
        raise DataError(
            f"expected times of h2d, compute, d2h or enqueue in both rows; got "
            f"{_listed(ours.samples)} in ours and {_listed(theirs.samples)} in trtexec's: "
            "measure an engine on a GPU, and read a file of --exportTimes"
        )
    comparisons = []
    for stage in both:
        pair = own_stages[stage], theirs.samples[stage]
        ours_ms, theirs_ms = map(median, pair)
        ratio = ours_ms / theirs_ms if theirs_ms else None
        p99_ms = (percentile(samples, 99) for samples in pair)
        comparisons.append(StageComparison(stage, ours_ms, theirs_ms, ratio, *p99_ms))
    return comparisons


def _comparable(samples: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    """Return our samples by trtexec's names."""
    named = dict(samples)
    if not named.get("compute") and named.get("device"):
        named["latency"] = named["device"]  # a CUDA graph: both copies are in it
        return named
    parts = [named.get(stage, ()) for stage in ("h2d", "compute", "d2h")]
    if all(parts) and len({len(part) for part in parts}) == 1:
        named["latency"] = [sum(stages) for stages in zip(*parts, strict=True)]
    return named


def _row(run: str, backend: str, case: Case | None, values: Any, details: Any, **extra: Any) -> Row:
    fields = {"run": run, "contender": backend, "case": case or Case(), "values": values}
    return Row(scenario="trtexec", details=details, **fields, **extra)


def _objects(path: str | Path) -> list[dict[str, Any]]:
    """Return a file's list of JSON objects, at least one (DataError)."""
    with parsing(path, TRTEXEC_FILE):
        entries = load_json(read_bytes(path, LARGEST, TRTEXEC_FILE))
    if (
        not entries
        or not isinstance(entries, list)
        or not all(isinstance(x, dict) for x in entries)
    ):
        _refuse(path, "a list of objects, as --exportTimes or --exportProfile writes it", "another")
    return cast(list[dict[str, Any]], entries)


def _number(path: str | Path, entry: Mapping[str, Any], names: Iterable[str]) -> float:
    """Return the first of several names' finite, non-negative number (DataError)."""
    name = next((x for x in names if x in entry), None)
    if name is None:
        _refuse(path, " or ".join(names), f"an object with {_listed(entry)}")
    value = entry[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(path, f"a number for {name}", type(value).__name__)
    if not 0 <= value < 1e15:  # ms: 30,000 years; no infinity, and every int fits a float
        _refuse(path, f"milliseconds for {name}", f"{value:g}" if abs(value) < 1e300 else "more")
    return float(value)


def _enqueue(path: str | Path, query: Mapping[str, Any]) -> float:
    start, end = (_number(path, query, (name,)) for name in ENQUEUE)
    if end < start:
        _refuse(path, "an enqueue that ends after it starts", f"{start:g} to {end:g} ms")
    return end - start


def _coarse(queries: Sequence[Mapping[str, Any]], enqueue_ms: Sequence[float]) -> Iterator[str]:
    """Warn where the enqueue, a difference of stamps, is not known precisely enough."""
    latest = max(float(query[ENQUEUE[1]]) for query in queries)
    step_ms = 10.0 ** (math.floor(math.log10(max(latest, 1e-3))) + 1 - DIGITS)
    if step_ms > 0.1 * median(enqueue_ms):
        yield f"enqueue: trtexec stamps with {DIGITS} digits, so it is known to {step_ms:g} ms only"


def _parallel(stamps: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Warn where a query computed before the previous one had ended."""
    starts, ends = stamps["compute start"][1:], stamps["compute end"][:-1]
    slack = 2 * 10.0 ** (1 - DIGITS)  # both stamps are rounded
    early = sum(start < end * (1 - slack) for start, end in zip(starts, ends, strict=True))
    if early:
        yield (
            f"parallel: {early} queries computed while another did (several streams); "
            "their number per second counts, not their latency"
        )


def _layer(path: str | Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    name = entry.get("name")
    if not isinstance(name, str):
        _refuse(path, "a layer with a name", f"an object with {_listed(entry)}")
    middle = _number(path, entry, ("medianMs",)) if "medianMs" in entry else None
    return {
        "name": one_line(name, 500),
        "time_ms": _number(path, entry, ("timeMs",)),
        "average_ms": _number(path, entry, ("averageMs",)),
        "median_ms": middle,
        "percentage": _number(path, entry, ("percentage",)),
    }


def _refuse(path: str | Path, expected: str, got: str) -> NoReturn:
    raise DataError(f"{one_line(path)}: expected {expected}; got {one_line(got)}")


def _listed(keys: Iterable[str]) -> str:
    return one_line(", ".join(sorted(keys)) or "none", 80)
