"""Read the rows of a benchmark: median latency of each backend beside eager PyTorch's.

python examples/read_bench_rows.py benchmarks/results/epyc-vnni-2core/bench.jsonl
"""

from pathlib import Path
from statistics import median

import typer

from cstl_edge.bench.record import read_rows


def main(file: Path, graph: str = "full", batch: int = 1) -> None:
    """Print the rows of `graph` or `single` in FILE, run by run: ratios are taken within a run."""
    measured = (row for row in read_rows(file) if row.scenario in ("graph", "single"))
    rows = [row for row in measured if "wall" in row.samples and row.case.paced_hz is None]
    for run in dict.fromkeys(row.run for row in rows):
        chosen = [
            row for row in rows if (row.run, row.case.graph, row.case.batch) == (run, graph, batch)
        ]
        ms = {row.contender: median(row.samples["wall"]) for row in chosen}
        usual = ms.get("pytorch float32")
        for name, value in sorted(ms.items(), key=lambda item: item[1]):
            ratio = f", {usual / value:.1f} times as fast as eager PyTorch" if usual else ""
            print(f"{run} {name}: {value:.1f} ms{ratio}")


if __name__ == "__main__":
    typer.run(main)
