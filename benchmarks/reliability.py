"""Draw how well a model's confidence agrees with what happened (a reliability diagram).

    python benchmarks/reliability.py [MODEL] --picture docs/images/reliability.svg

The bins stand in the manifest, where `export` wrote them: simulated searches of synthetic people
who were not in the curve's fit (`cstl_edge.evaluation.confidence`). Prints them, and the expected
calibration error: the mean difference of confidence and truth, weighted by searches.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conditions import standalone

from cstl_edge.output import write_file
from cstl_edge.runtime import load


def calibration_error(bins: Sequence[Mapping[str, float]]) -> float:
    """Return the mean difference of confidence and share that was right, weighted by searches.

    Guo et al., On calibration of modern neural networks (2017), equation 3.
    """
    total = sum(row["searches"] for row in bins)
    return sum(row["searches"] * abs(row["confidence"] - row["right"]) for row in bins) / total


def picture(bins: Sequence[Mapping[str, float]]) -> str:
    """Return the diagram as an SVG: a bar for each bin, and the line of perfect agreement."""
    from cstl_edge.bench.report.charts.svg import SERIES, canvas
    from cstl_edge.bench.report.charts.svg import picture as drawn

    total = sum(row["searches"] for row in bins)
    with canvas(320) as (figure, axes):
        for row in bins:
            x, y = 100 * row["confidence"], 100 * row["right"]
            axes.bar(x, y, width=8, color=SERIES[0], alpha=0.4)
            axes.text(x, y + 1, f"{y:.0f}", ha="center")
            axes.text(x, -4, f"{100 * row['searches'] / total:.0f}", ha="center", va="top")
        axes.plot([0, 100], [0, 100], color="#888", linestyle="--", linewidth=1)
        axes.set_xlim(0, 102)
        axes.set_ylim(-12, 108)
        axes.set_xlabel("confidence, % (below the bars: share of the searches, %)")
        axes.set_ylabel("nearest person was the walker, %")
        shown = ((100 * row["confidence"], 100 * row["right"]) for row in bins)
        facts = (f"{sure:.0f} % sure, {right:.0f} % right" for sure, right in shown)
        return standalone(drawn(figure, "Reliability of the confidence", facts).svg)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", help="folder of a model (default: the shipped one)")
    parser.add_argument("--picture", type=Path, help="an SVG")
    args = parser.parse_args(argv)
    record: Any = load(args.model).info.confidence
    if not record:
        sys.exit("this model has no confidence curve: export it with --matching cosine")
    bins = record["reliability"]
    print("| confidence | right | searches |\n|---|---|---|")
    for row in bins:
        print(f"| {row['confidence']:.2f} | {row['right']:.2f} | {row['searches']:,} |")
    print(f"expected calibration error {calibration_error(bins):.3f}; {record['data']}")
    if args.picture is not None:
        write_file(args.picture, picture(bins))
    return 0


if __name__ == "__main__":
    sys.exit(main())
