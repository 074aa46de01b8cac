"""Run the demo over many seeds and count, failures included.

python benchmarks/demo.py --seeds 20 --out benchmarks/results/<device>/demo.jsonl

With `--workers` several seeds run at once, each on a core of its own: then times are those of one
core.
The real clip is the same for every seed and runs once.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from study import append_record, run_study, study_parser

from cstl_edge.demo import run_demo
from cstl_edge.errors import CstlEdgeError
from cstl_edge.measure.environment import environment
from cstl_edge.output import append_line


def pin_to_core(cores_in_use: Synchronized[int]) -> None:
    """Pin a worker to one core, and with it the threads that the libraries start."""
    cores = sorted(os.sched_getaffinity(0))
    with cores_in_use.get_lock():
        os.sched_setaffinity(0, {cores[cores_in_use.value % len(cores)]})
        cores_in_use.value += 1


def one_seed(seed: int) -> dict[str, Any]:
    """Run one demo, the real clip with seed 0 alone; a failure is a result."""
    scenes = ("real", "street") if seed == 0 else ("street",)
    with tempfile.TemporaryDirectory() as folder:
        try:
            return asdict(run_demo(Path(folder), seed=seed, scenes=scenes))
        except CstlEdgeError as err:
            return {"seed": seed, "walkers": [], "error": str(err)}


def study(args: argparse.Namespace) -> None:
    """Run the seeds, in this process or in workers."""
    if args.workers == 1:
        report(map(one_seed, range(args.seeds)), args)
        return
    context = multiprocessing.get_context("spawn")
    cores_in_use = (context.Value("i", 0),)
    with ProcessPoolExecutor(args.workers, context, pin_to_core, cores_in_use) as pool:
        report(pool.map(one_seed, range(args.seeds)), args)


def report(results: Iterable[dict[str, Any]], args: argparse.Namespace) -> None:
    """Print and append a line per seed and one of all."""
    totals: Counter[str] = Counter()
    for result in results:
        street = [row["verdict"] for row in result["walkers"] if row["scene"] == "street"]
        totals.update(street or ["failed run"])
        totals["failure to enroll"] += len(result.get("not_enrolled", []))
        outcome = Counter(street) or result.get("error")
        print(result["seed"], result.get("seconds"), outcome, flush=True)
        if args.out:
            fields = {key: value for key, value in result.items() if key not in ("lines", "folder")}
            append_line(args.out, {"benchmark": "demo", **fields})
    record = {"seeds": args.seeds, "workers": args.workers, "street": dict(totals)}
    record |= {"environment": environment()}
    print(record)
    append_record(args.out, "demo, all seeds", record)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1, help="seeds at once")
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
