"""Result rows: typed records, each one complete JSON line with its raw samples.

Files of rows come back from other people's machines, so reading checks every field. The keys
`contender` (name of the backend under test) and `subject` (the model under test) are persisted and
keep their spelling.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cstl_edge.errors import DataError, one_line
from cstl_edge.foreign import load_json, open_regular, parsing
from cstl_edge.output import append_line

SCHEMA = 1
LONGEST_LINE = 64 << 20  # characters; a minute of a 0.1 ms call is 6 MB
SCENARIO_NAME = r"^[a-z][a-z0-9_]{0,39}$"
"""Of the table `scenarios.open.SCENARIOS`, where another package may add its own; `peers` and
`trtexec` come from scripts."""


class FrozenRecord(BaseModel):
    """Frozen model that refuses unknown fields, infinities and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Ran(FrozenRecord):
    """A backend as it really ran, never as it was requested."""

    backend: str  # `onnxruntime`, `openvino`, `pytorch`, `tensorrt`, `tensorrt-rtx`
    provider: str  # device that computed: an execution provider, `cpu`, a GPU's name
    precision: str  # of the graph's tensors: float32, float16, bfloat16, int8
    computed_in: str  # precision of the arithmetic: `float32` for a float16 file on a CPU
    version: str  # of the runtime
    threads: int | None = None
    options: dict[str, str] = {}
    """Other choices that change the speed: `compiled`, `cuda graph`, `plugin`, ..."""


class ModelUnderTest(FrozenRecord):
    """The network whose cost, accuracy and power a row reports."""

    name: str
    weights_sha256: str
    size: tuple[int, int]
    parts: int
    widths: tuple[int, ...] = ()
    """Channels of the trunk's convolutions; empty where a file does not state them."""
    trained: bool = True
    """False for random weights: their cost is the same, their accuracy means nothing."""


class Case(FrozenRecord):
    """The work that was measured."""

    graph: Literal["frames", "head", "full", "streaming"] | None = None
    batch: int | None = None
    """Silhouettes per call of `frames`, sequences per call of `head` and `full`."""
    frames: int | None = None  # frames of a sequence or a window
    hop: int | None = None  # frames between two answers
    walkers: int | None = None
    paced_hz: float | None = None  # calls per second of a camera's pace; None for back to back
    source: str | None = None  # URI of the video source, end to end


class Check(FrozenRecord):
    """Outputs against a reference's while measuring; a row that fails reports no times."""

    reference: str
    cosine: float  # smallest cosine similarity of a part
    max_abs: float
    ok: bool


class Row(FrozenRecord):
    """One result, one JSON line."""

    version: int = SCHEMA
    run: str  # the same for all rows of one call: ratios are taken within a run only
    scenario: str = Field(pattern=SCENARIO_NAME)
    contender: str
    """Name of the backend under test among the rows of a scenario, e.g. `onnxruntime int8`."""
    ran: Ran | None = None
    subject: ModelUnderTest | None = None  # the model under test
    case: Case = Case()
    samples: dict[str, list[float]] = {}
    """Raw milliseconds by stage in the order they were taken: `wall`, `device`, `h2d`, `compute`,
    `d2h`, `enqueue`, or the stages of a pipeline."""
    dropped: dict[str, int] = {}  # samples that do not count, by reason: `throttled`
    values: dict[str, float] = {}
    """Figures other than times, units in their names: `sequences_per_s`, `rank1`, `fnir`,
    `joules_per_embedding`, `walkers`, `gflops`, ..."""
    intervals: dict[str, tuple[float, float]] = {}  # 95 % intervals of `values`
    check: Check | None = None
    warnings: list[str] = []
    skipped: str | None = None  # reason why there is no figure, in one line
    details: dict[str, Any] = {}  # further data of a scenario, e.g. every number of walkers tried
    conditions: dict[str, Any] = {}  # clocks, temperatures, power mode and load around the samples
    environment: dict[str, Any] = {}
    """The machine, the versions, the commit (`measure.environment`)."""

    @field_validator("details", "conditions", "environment")
    @classmethod
    def _finite(cls, tree: dict[str, Any]) -> dict[str, Any]:
        """Refuse infinities and NaN, which JSON has not, in the free-form fields."""
        for value in _leaves(tree):
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"expected finite numbers; got {value}")
        return tree


def _leaves(tree: Any) -> Iterator[Any]:
    """Yield the leaves of a tree of dictionaries and lists, at any depth."""
    rest = [tree]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest.extend(value.values())
        elif isinstance(value, (list, tuple)):
            rest.extend(value)
        else:
            yield value


def is_row(record: Mapping[str, Any]) -> bool:
    """Tell whether a JSON line is a row of ours."""
    return {"run", "scenario", "contender"} <= record.keys()


def write_rows(path: str | Path, rows: Iterable[Row]) -> None:
    """Append rows to a file of JSON lines (StorageError)."""
    for row in rows:
        append_line(path, row_json(row))


def row_json(row: Row) -> dict[str, Any]:
    """Return a row as its JSON object: fields with their defaults left out, the version kept."""
    return row.model_dump(mode="json", exclude_defaults=True) | {"version": SCHEMA}


def read_rows(path: str | Path) -> Iterator[Row]:
    """Yield the rows of a file of JSON lines without records of other benchmarks (DataError)."""
    with parsing(path, "a file of results"), open_regular(path) as file:
        yield from parse_rows(io.TextIOWrapper(file, encoding="utf-8"), str(path))


def parse_rows(lines: TextIO, name: str) -> Iterator[Row]:
    """Yield the rows of an open file as `read_rows` does; `name` stands in messages."""
    try:
        for number, line in enumerate(iter(lambda: lines.readline(LONGEST_LINE + 1), ""), 1):
            if row := _parse_row(f"{name}, line {number}", line):
                yield row
    except UnicodeDecodeError as err:
        raise DataError(f"{one_line(name)}: expected a file of results: {one_line(err)}") from err


def _parse_row(where: str, line: str) -> Row | None:
    if len(line) > LONGEST_LINE:
        raise DataError(f"{one_line(where)}: expected at most {LONGEST_LINE} characters; got more")
    if not line.strip():
        return None
    with parsing(where, "a JSON object"):
        record = load_json(line)
    if not isinstance(record, dict) or "scenario" not in record:
        return None  # a record of another benchmark
    if record.get("version") != SCHEMA:
        raise DataError(
            f"{one_line(where)}: expected results of version {SCHEMA}; got "
            f"{one_line(record.get('version'))}: read it with the release that wrote it"
        )
    with parsing(where, "a row of results"):
        try:
            return Row.model_validate(record)
        except ValidationError as err:
            first = err.errors()[0]
            place = one_line(".".join(str(x) for x in first["loc"]))
            raise DataError(f"{one_line(where)}: {place}: {one_line(first['msg'])}") from err
