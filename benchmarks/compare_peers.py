"""Comparison of CSTL with its peers in the paper's tables, all trained alike at one common cost.

    python benchmarks/compare_peers.py STEP --out benchmarks/results/DEVICE/peers.jsonl

Steps in turn: `train` (minutes per network; resumes where it stopped), `evaluate` (skips weights
that the file has already), `memory`, `cost` (wants a quiet machine), `table` (measures nothing,
writes the Markdown beside the rows).
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from peers.accuracy import accuracy_row
from peers.cost import About, cost_rows, memory_rows
from peers.networks import ABLATIONS, COMMON, NETWORKS, PUBLISHED
from peers.table import tables
from peers.training import budget, train, weights_of
from study import run_study

from cstl_edge.bench.record import Row, read_rows, write_rows
from cstl_edge.data.shards import ShardedSequences
from cstl_edge.data.walkers_dataset import make_shards
from cstl_edge.evaluation.held_out import CACHE, WALKERS, held_out
from cstl_edge.measure.environment import environment
from cstl_edge.output import write_file
from cstl_edge.reproduce.peers.blocks import SIZE
from cstl_edge.reproduce.peers.training import training_record
from cstl_edge.runtime.base import usable_cores
from cstl_edge.training.run_state import prepare_process

logger = logging.getLogger("compare_peers")

WIDTHS = (COMMON, PUBLISHED)


def rows_of(path: Path) -> list[Row]:
    """Return the rows that a file has so far."""
    return list(read_rows(path)) if path.exists() else []


def train_all(args: argparse.Namespace, _: About) -> Iterator[Row]:
    """Train the networks without weights; figures come with `evaluate`."""
    config = budget(args.iterations, args.seed)
    prepare_process(config.run)
    assert config.walkers is not None
    data = ShardedSequences(make_shards(config.walkers, CACHE))
    for name in args.networks:
        train(name, config, data, weights_of(args.folder, name, config), logger.info)
    yield from ()


def evaluate_all(args: argparse.Namespace, about: About) -> Iterator[Row]:
    """Yield rank-1 of the trained networks that the file has no row of."""
    config, held = budget(args.iterations, args.seed), held_out(WALKERS, SIZE)
    prepare_process(config.run)
    known = {row.subject.weights_sha256 for row in rows_of(args.out) if row.subject}
    for name in args.networks:
        weights = weights_of(args.folder, name, config)
        if not weights.exists():
            logger.warning("%s is not trained for %d iterations yet", name, args.iterations)
        elif training_record(weights)["weights_sha256"] not in known:
            yield accuracy_row(name, weights, held, about)


def cost(args: argparse.Namespace, about: About) -> Iterator[Row]:
    """Yield counts and times."""
    options = {"threads": args.threads, "seconds": args.seconds}
    for widths in args.widths:
        yield from cost_rows(widths, args.networks, about, **options)


def memory(args: argparse.Namespace, about: About) -> Iterator[Row]:
    """Yield peaks of memory."""
    for widths in args.widths:
        yield from memory_rows(widths, args.networks, about, threads=args.threads)


def table(args: argparse.Namespace, _: About) -> Iterator[Row]:
    """Write the Markdown; there are no new rows."""
    write_file(args.out.with_suffix(".md"), tables(rows_of(args.out)))
    yield from ()


STEPS = {
    "train": train_all,
    "evaluate": evaluate_all,
    "memory": memory,
    "cost": cost,
    "table": table,
}


def study(args: argparse.Namespace) -> None:
    """Run a step, append its rows, print their figures."""
    about = {"run": os.urandom(6).hex(), "environment": environment()}
    for row in STEPS[args.step](args, about):
        write_rows(args.out, [row])
        name = row.subject.name if row.subject else ""
        logger.info("%s, %s: %s", name, row.contender, row.skipped or row.values)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", choices=list(STEPS))
    known = [*NETWORKS, *ABLATIONS]  # these are trained and evaluated by name only
    parser.add_argument("--networks", nargs="+", choices=known, default=list(NETWORKS))
    parser.add_argument("--iterations", type=int, default=1000, help="of every training")
    parser.add_argument("--seed", type=int, default=1, help="of every training")
    parser.add_argument("--widths", nargs="+", choices=WIDTHS, default=WIDTHS)
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of what is timed")
    parser.add_argument("--seconds", type=float, default=1.0, help="of samples for each call")
    parser.add_argument("--folder", type=Path, default=Path("runs/peers"), help="of the trainings")
    parser.add_argument("--out", type=Path, default=Path("runs/peers/peers.jsonl"), help="rows")
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
