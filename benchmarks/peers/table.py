"""The comparison as Markdown, from its rows: accuracy, latency and memory side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cstl_edge.bench.record import Row
from cstl_edge.evaluation.tables import Table, markdown
from cstl_edge.measure.stats import summary
from cstl_edge.reproduce.report import difference
from peers.networks import COMMON, CSTL, NETWORKS, NOTHING, PUBLISHED

CONDITIONS = ("rank1_nm", "rank1_bg", "rank1_cl", "rank1")
MISSING = "-"
COMMANDS = (
    "`python benchmarks/neighbours.py STEP --out FILE`, with `train`, `evaluate`, `memory`, `cost` "
    "and `table` in turn"
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
    "GLN is without its compact block. The class head that supervises CSTL's SSFL has hardly begun "
    "to learn at such a budget, hence the row without SSFL.",
    "Equal cost means 30 frames at once. Training sees 12 frames, where what GLN and GaitSet "
    "compute once per sequence weighs more; processor seconds say what it came to.",
)


class Found:
    """The rows of a file by what they are about, the last of each winning."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.accuracy: dict[tuple[int, str], Row] = {}  # iterations, network
        self.timed: dict[tuple[str, str, str, str], Row] = {}  # widths, network, backend, graph
        self.memory: dict[tuple[str, str, str], Row] = {}  # widths, network, backend
        for row in rows:
            if row.scenario == "peers" and row.subject is not None and row.ran is not None:
                self._sort(row, row.subject.name, row.ran.backend)

    def _sort(self, row: Row, name: str, backend: str) -> None:
        if "rank1" in row.values:
            self.accuracy[int(row.values["iterations"]), name] = row
            return
        widths = str(row.details.get("widths"))
        if "peak_memory_mb" in row.values:
            self.memory[widths, name, backend] = row
        elif "multiply_adds" in row.values:
            self.timed[widths, name, backend, str(row.case.graph)] = row

    def p50_ms(self, widths: str, name: str, backend: str, graph: str) -> str:
        """Return the median time of a call in words."""
        if graph == "streaming" and NETWORKS[name].kept == NOTHING:
            return "a whole window"
        row = self.timed.get((widths, name, backend, graph))
        if row is None or not row.samples.get("wall"):
            return MISSING
        return f"{summary(row.samples['wall'])['p50_ms']:.1f}"

    def value(self, widths: str, name: str, key: str, graph: str = "full") -> float | None:
        """Return a count of a network."""
        row = self.timed.get((widths, name, "onnxruntime", graph))
        return None if row is None else row.values[key]

    def memory_mb(self, widths: str, name: str, backend: str) -> str:
        """Return the peak memory of a network in words."""
        row = self.memory.get((widths, name, backend))
        return MISSING if row is None else f"{row.values['peak_memory_mb']:.0f}"


def tables(rows: Iterable[Row]) -> str:
    """Return all tables and what they rest on."""
    found = Found(rows)
    budgets = sorted({iterations for iterations, _ in found.accuracy}, reverse=True)
    texts = ["# CSTL and its neighbours", COMMANDS]
    texts += [markdown(_side_by_side(found, iterations)) for iterations in budgets]
    texts.append(markdown(_costs(found, COMMON)))
    texts.append(markdown(_costs(found, PUBLISHED)))
    texts.append("\n".join(f"- {line}" for line in _notes(found)))
    return "\n\n".join(texts) + "\n"


def _side_by_side(found: Found, iterations: int) -> Table:
    columns = (
        *("Network", "NM", "BG", "CL", "Mean", f"less {CSTL}"),
        *("whole window, ms", "one more frame, ms", "memory, MB", "training, processor s"),
    )
    lines = []
    for name in NETWORKS:
        row = found.accuracy.get((iterations, name))
        times = [found.p50_ms(COMMON, name, "onnxruntime", x) for x in ("full", "streaming")]
        memory = found.memory_mb(COMMON, name, "onnxruntime")
        spent = MISSING if row is None else f"{row.values['training_s']:.0f}"
        lines.append((name, *_accuracies(found, row, iterations), *times, memory, spent))
    title = (
        f"Rank-1 across views (%) after {iterations:,} iterations, beside what an answer costs in "
        "ONNX Runtime; all at the common cost"
    )
    return Table(title, columns, tuple(lines))


def _accuracies(found: Found, row: Row | None, iterations: int) -> list[str]:
    if row is None:
        return [MISSING] * (len(CONDITIONS) + 1)
    cells = []
    for key in CONDITIONS:
        low, high = row.intervals[key]
        cells.append(f"{100 * row.values[key]:.1f} ({100 * low:.1f} to {100 * high:.1f})")
    against = found.accuracy.get((iterations, CSTL))
    return [*cells, "" if against is row else _difference(row, against)]


def _difference(row: Row, against: Row | None) -> str:
    found = None if against is None else difference(row.details, against.details)
    if found is None:
        return MISSING
    low, high = (100 * end for end in found["interval_95"])
    said = "no difference" if found["verdict"] == "none" else found["verdict"]
    return f"{100 * found['difference']:+.1f} ({low:+.1f} to {high:+.1f}): {said}"


def _costs(found: Found, widths: str) -> Table:
    columns = (
        *("Network", "channels", "parameters", "multiply-adds, M", "of one more frame, M"),
        *("kept per frame, KB", "eager PyTorch, ms", "ONNX Runtime, ms"),
        *("one more frame, eager, ms", "one more frame, ONNX Runtime, ms"),
        *("memory, eager, MB", "memory, ONNX Runtime, MB"),
    )
    lines = [(name, *_cost(found, widths, name)) for name in NETWORKS]
    at = "the common cost" if widths == COMMON else "published widths"
    return Table(f"What 30 frames cost at {at}", columns, tuple(lines))


def _cost(found: Found, widths: str, name: str) -> Sequence[str]:
    network = NETWORKS[name]
    channels = network.widths if widths == COMMON else network.published_widths
    parameters = found.value(widths, name, "parameters")
    whole = found.value(widths, name, "multiply_adds")
    further = found.value(widths, name, "multiply_adds", "streaming")
    kept = found.value(widths, name, "kept_bytes_per_frame")
    both = ("pytorch", "onnxruntime")
    return (
        "/".join(map(str, channels)),
        MISSING if parameters is None else f"{parameters:,.0f}",
        MISSING if whole is None else f"{whole / 1e6:,.1f}",
        "all"
        if network.kept == NOTHING
        else MISSING
        if further is None
        else f"{further / 1e6:,.1f}",
        f"{kept / 1024:,.1f}" if kept else MISSING,
        *(found.p50_ms(widths, name, backend, "full") for backend in both),
        *(found.p50_ms(widths, name, backend, "streaming") for backend in both),
        *(found.memory_mb(widths, name, backend) for backend in both),
    )


def _notes(found: Found) -> list[str]:
    lines = ["95 % intervals: bootstrap over people; differences are paired by person."]
    if rows := list(found.accuracy.values()):
        sampler, run = (rows[0].details["training"]["configuration"][x] for x in ("sampler", "run"))
        lines.append(
            f"Trained alike: {sampler['people']}×{sampler['sequences']} sequences of "
            f"{sampler['frames']} frames, the same batches, Adam, one cosine schedule of learning "
            f"rates, moving average, {run['precision']}, seed {run['seed']}, {run['threads']} "
            "thread, first weights by one rule (not each author's own); triplet loss of each part, "
            "for CSTL the cross-entropy of its class head beside it. People: "
            f"{rows[0].details['training']['configuration']['walkers']['people']} to train on; "
            f"tested on {rows[0].details['people']} people of {rows[0].details['data']}."
        )
    for iterations in sorted({iterations for iterations, _ in found.accuracy}):
        missing = [name for name in NETWORKS if (iterations, name) not in found.accuracy]
        if missing:
            lines.append(f"No figures after {iterations:,} iterations yet: {', '.join(missing)}.")
    if rows := list(found.timed.values()):
        machine = rows[-1].environment
        lines.append(
            f"Times: medians, batch 1, float32, {rows[-1].ran.threads if rows[-1].ran else MISSING}"
            f" threads, all calls of a table in turn; {machine.get('cpu')}, {machine.get('cores')} "
            f"cores, {machine.get('vector')}, commit {machine.get('commit')}. Memory: of whole "
            "windows in a process of its own, over the loaded libraries. Weights are random here: "
            "they cost the same."
        )
        lines.append(
            "One more frame: the trunk once, then the answer from what was kept of 30 frames. The "
            "package's own windows that slide are cheaper still for CSTL and are not used here."
        )
    return [*lines, *CAVEATS]
