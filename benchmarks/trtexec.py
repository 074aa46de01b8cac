"""Read exports of trtexec into a file of results, and compare ours with them.

trtexec --loadEngine=full.engine --exportTimes=times.json --exportProfile=layers.json
python benchmarks/trtexec.py times.json --profile layers.json --graph full --batch 1 --frames 30 \
    --ours runs/bench/RUN.jsonl -o runs/bench/trtexec.jsonl
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from study import run_study

from cstl_edge.bench import trtexec
from cstl_edge.bench.record import Case, Row, read_rows, write_rows
from cstl_edge.errors import DataError, one_line


def study(args: argparse.Namespace) -> None:
    """Read, write, print."""
    case = Case(graph=args.graph, batch=args.batch, frames=args.frames)
    fields = {"run": args.run, "backend": args.contender, "case": case}
    theirs = trtexec.read_times(args.times, **fields)
    rows = [theirs]
    if args.profile:
        rows.append(trtexec.read_profile(args.profile, **fields))
    if args.ours:
        show(trtexec.compare_stages(find_row(args.ours, args.contender, case), theirs))
    if args.out:
        write_rows(args.out, rows)
    for warning in theirs.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def find_row(path: Path, backend: str, case: Case) -> Row:
    """Return our latest back-to-back row of the same engine and sizes (DataError).

    Args:
        path: File of results.
        backend: Name of the engine among our rows.
        case: Graph, batch and number of frames.
    """
    matching = [
        row
        for row in read_rows(path)
        if row.scenario == "graph" and row.contender == backend and row.samples
        if row.case.paced_hz is None and _sizes(row.case) == _sizes(case)
    ]
    if not matching:
        raise DataError(
            f"{one_line(path)}: expected times of `{backend}` for graph, batch and frames "
            f"{_sizes(case)}; got none: give --contender, --graph, --batch and --frames as there"
        )
    return matching[-1]


def show(pairs: Sequence[trtexec.StageComparison]) -> None:
    """Print a table, milliseconds."""
    print(f"{'':8}{'ours':>10}{'trtexec':>10}{'ratio':>8}{'ours p99':>11}{'trtexec p99':>13}")
    for x in pairs:
        ratio = "-" if x.ratio is None else f"{x.ratio:.3f}"
        print(
            f"{x.stage:8}{x.ours_ms:10.4f}{x.theirs_ms:10.4f}{ratio:>8}"
            f"{x.ours_p99_ms:11.4f}{x.theirs_p99_ms:13.4f}"
        )


def _sizes(case: Case) -> tuple[str | None, int | None, int | None]:
    return case.graph, case.batch, case.frames


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("times", type=Path, help="file of --exportTimes")
    parser.add_argument("--profile", type=Path, help="file of --exportProfile")
    parser.add_argument("--graph", choices=("frames", "head", "full"), default="full")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--frames", type=int, help="frames of a sequence; none for `frames`")
    parser.add_argument("--contender", default="tensorrt float16", help="as our rows call it")
    parser.add_argument("--run", default="trtexec", help="name of these rows")
    parser.add_argument("--ours", type=Path, help="results of `cstl-edge bench` to lay beside")
    parser.add_argument("-o", "--out", type=Path, help="file of results to append the rows to")
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
