"""Markdown tables of the comparison, from its rows: accuracy, latency and memory side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cstl_edge.bench.record import Row
from cstl_edge.evaluation.tables import percent_with_interval
from cstl_edge.measure.stats import percentile
from cstl_edge.measure.tables import Table
from cstl_edge.reproduce.report import describe_difference, difference
from peers.networks import ABLATIONS, COMMON, CSTL, NETWORKS, NOTHING, PUBLISHED

CONDITIONS = ("rank1_nm", "rank1_bg", "rank1_cl", "rank1")
BACKENDS = ("pytorch", "onnxruntime")
MISSING = "-"
COMMANDS = (
    "`python benchmarks/compare_peers.py STEP --out FILE`, with `train`, `evaluate`, `memory`, "
    "`cost` and `table` in turn"
)
ACCURACY_COLUMNS = (
    *("Network", "NM", "BG", "CL", "Mean", f"less {CSTL}"),
    *("whole window, ms", "one more frame, ms", "memory, MB", "training, processor s"),
)
COST_COLUMNS = (
    *("Network", "channels", "parameters", "multiply-adds, M", "of one more frame, M"),
    *("kept per frame, KB", "eager PyTorch, ms", "ONNX Runtime, ms"),
    *("one more frame, eager, ms", "one more frame, ONNX Runtime, ms"),
    *("memory, eager, MB", "memory, ONNX Runtime, MB"),
)
CAVEATS = (
    "A short budget: published trainings of GaitSet, GaitPart and GLN take 40,000 to 120,000 "
    "iterations of larger batches. What learns fast looks good here; nothing is said about who "
    "wins in the end.",
    "One training per network and budget: what another seed would change is in no interval.",
    "Synthetic people (Walkers). Published figures are of CASIA-B and OU-MVLP and do not stand "
    "beside these: they would compare datasets.",
    "Scaled widths: at the common cost every network is 3 to 11 times narrower than its authors "
    "made it, and few of these widths fill the 16 lanes of a vector register.",
    "The MT3D-style reconstruction is ours: MT3D's layers are not public, and nothing here speaks "
    "for MT3D.",
    "GLN is without its compact block.",
    "Equal cost means 30 frames at once. Training sees 12 frames, where what GLN and GaitSet "
    "compute once per sequence weighs more; processor seconds say what it came to.",
)


class Results:
    """The rows of a file by subject, the last of each winning."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.accuracy: dict[tuple[int, str], Row] = {}  # iterations, network
        self.timed: dict[tuple[str, str, str, str], Row] = {}  # widths, network, backend, graph
        self.memory: dict[tuple[str, str, str], Row] = {}  # widths, network, backend
        for row in rows:
            if row.scenario != "peers" or row.subject is None or row.ran is None:
                continue
            name, backend = row.subject.name, row.ran.backend
            widths = str(row.details.get("widths"))
            if "rank1" in row.values:
                self.accuracy[int(row.values["iterations"]), name] = row
            elif "peak_memory_mb" in row.values:
                self.memory[widths, name, backend] = row
            elif "multiply_adds" in row.values:
                self.timed[widths, name, backend, str(row.case.graph)] = row

    def p50_ms(self, widths: str, name: str, backend: str, graph: str) -> str:
        """Return the median time of a call as text.

        Args:
            widths: COMMON or PUBLISHED.
            name: Name of the network.
            backend: One of BACKENDS.
            graph: `full` or `streaming`.
        """
        if graph == "streaming" and {**NETWORKS, **ABLATIONS}[name].kept == NOTHING:
            return "a whole window"
        row = self.timed.get((widths, name, backend, graph))
        if row is None or not row.samples.get("wall"):
            return MISSING
        return f"{round(percentile(row.samples['wall'], 50), 4):.1f}"

    def value(self, widths: str, name: str, key: str, graph: str = "full") -> float | None:
        """Return a count of a network.

        Args:
            widths: COMMON or PUBLISHED.
            name: Name of the network.
            key: Name of the value in the row.
            graph: `full` or `streaming`.
        """
        row = self.timed.get((widths, name, "onnxruntime", graph))
        return None if row is None else row.values[key]

    def memory_mb(self, widths: str, name: str, backend: str) -> str:
        """Return the peak memory of a network as text.

        Args:
            widths: COMMON or PUBLISHED.
            name: Name of the network.
            backend: One of BACKENDS.
        """
        row = self.memory.get((widths, name, backend))
        return MISSING if row is None else f"{row.values['peak_memory_mb']:.0f}"


def tables(rows: Iterable[Row]) -> str:
    """Return all tables and their basis."""
    results = Results(rows)
    budgets = sorted({iterations for iterations, _ in results.accuracy}, reverse=True)
    texts = ["# CSTL and its peers", COMMANDS]
    texts += [_side_by_side(results, iterations).markdown() for iterations in budgets]
    texts += [_costs(results, widths).markdown() for widths in (COMMON, PUBLISHED)]
    texts.append("\n".join(f"- {line}" for line in (*_notes(results), *CAVEATS)))
    return "\n\n".join(texts) + "\n"


def _side_by_side(results: Results, iterations: int) -> Table:
    lines = []
    ablated = [name for name in ABLATIONS if (iterations, name) in results.accuracy]
    for name in (*NETWORKS, *ablated):
        row = results.accuracy.get((iterations, name))
        times = [results.p50_ms(COMMON, name, "onnxruntime", x) for x in ("full", "streaming")]
        memory = results.memory_mb(COMMON, name, "onnxruntime")
        spent = MISSING if row is None else f"{row.values['training_s']:.0f}"
        lines.append((name, *_accuracies(results, row, iterations), *times, memory, spent))
    title = (
        f"Rank-1 across views (%) after {iterations:,} iterations, beside what an answer costs in "
        "ONNX Runtime; all at the common cost"
    )
    return Table(title, ACCURACY_COLUMNS, tuple(lines))


def _accuracies(results: Results, row: Row | None, iterations: int) -> list[str]:
    if row is None:
        return [MISSING] * (len(CONDITIONS) + 1)
    cells = [percent_with_interval(row.values[key], row.intervals[key]) for key in CONDITIONS]
    against = results.accuracy.get((iterations, CSTL))
    if against is row:
        return [*cells, ""]
    gain = None if against is None else difference(row.details, against.details)
    return [*cells, MISSING if gain is None else describe_difference(gain)]


def _costs(results: Results, widths: str) -> Table:
    lines = tuple((name, *_cost(results, widths, name)) for name in NETWORKS)
    at = "the common cost" if widths == COMMON else "published widths"
    return Table(f"What 30 frames cost at {at}", COST_COLUMNS, lines)


def _cost(results: Results, widths: str, name: str) -> Sequence[str]:
    network = NETWORKS[name]
    channels = network.widths if widths == COMMON else network.published_widths
    parameters = results.value(widths, name, "parameters")
    kept = results.value(widths, name, "kept_bytes_per_frame")
    further = results.value(widths, name, "multiply_adds", "streaming")
    return (
        "/".join(map(str, channels)),
        MISSING if parameters is None else f"{parameters:,.0f}",
        _millions(results.value(widths, name, "multiply_adds")),
        "all" if network.kept == NOTHING else _millions(further),
        f"{kept / 1024:,.1f}" if kept else MISSING,
        *(results.p50_ms(widths, name, x, graph) for graph in ("full", "streaming")
          for x in BACKENDS),
        *(results.memory_mb(widths, name, backend) for backend in BACKENDS),
    )  # fmt: skip


def _millions(value: float | None) -> str:
    return MISSING if value is None else f"{value / 1e6:,.1f}"


def _before_the_mend(row: Row) -> bool:
    """Return whether a row was trained with one class matrix for all parts."""
    configuration = row.details["training"]["configuration"]
    return "class_smoothing" not in configuration.get("optimiser", {"class_smoothing": 0.0})


def _notes(results: Results) -> Iterator[str]:
    yield "95 % intervals: bootstrap over people; differences are paired by person."
    if rows := list(results.accuracy.values()):
        details = rows[0].details
        sampler, run, walkers = (
            details["training"]["configuration"][x] for x in ("sampler", "run", "walkers")
        )
        yield (
            f"Trained alike: {sampler['people']}×{sampler['sequences']} sequences of "
            f"{sampler['frames']} frames, the same batches, Adam, one cosine schedule of learning "
            f"rates, moving average, {run['precision']}, seed {run['seed']}, {run['threads']} "
            "thread, first weights by one rule (not each author's own); triplet loss of each part, "
            "for CSTL the cross-entropy of its class head beside it. People: "
            f"{walkers['people']} to train on; tested on {details['people']} people of "
            f"{details['data']}."
        )
    if any(name == CSTL and _before_the_mend(row) for (_, name), row in results.accuracy.items()):
        yield (
            "**CSTL was measured before 2026-11-30, with a class head that could not learn and "
            "drew on the trunk** (docs/decisions/network.md): its accuracy here is that of a "
            "defect."
        )
    for iterations in sorted({iterations for iterations, _ in results.accuracy}):
        missing = [name for name in NETWORKS if (iterations, name) not in results.accuracy]
        if missing:
            yield f"No figures after {iterations:,} iterations yet: {', '.join(missing)}."
    if rows := list(results.timed.values()):
        machine, ran = rows[-1].environment, rows[-1].ran
        yield (
            f"Times: medians, batch 1, float32, {ran.threads if ran else MISSING}"
            f" threads, all calls of a table in turn; {machine.get('cpu')}, {machine.get('cores')} "
            f"cores, {machine.get('vector')}, commit {machine.get('commit')}. Memory: of whole "
            "windows in a process of its own, over the loaded libraries. Weights are random here: "
            "they cost the same."
        )
        yield (
            "One more frame: the trunk once, then the answer from what was kept of 30 frames. The "
            "package's own windows that slide are cheaper still for CSTL and are not used here."
        )
