"""Measure searches of galleries from 1,000 to 1,000,000 templates: CPU time, recall, FPIR.

python benchmarks/gallery_scale.py --sizes 1000 10000 100000
python benchmarks/gallery_scale.py --sizes 1000000 --searches 1000 --out gallery_scale.jsonl

Made-up people, random and in clusters who look alike (`cstl_edge.bench.gallery_crowds`), 5
templates each. Per size and kind: process CPU time of one search, compared with the float32 search
of all templates in the same run (up to --exact templates); recall, how often the nearest person is
that of the exact search (above --exact: the person who walks, where that is known to be the
nearest); how long adding takes. The rate of strangers below a threshold (FPIR) at N people is
extrapolated from that at the smallest size, 1 - (1 - F)^(N / N0), and compared with the simulated
rate; people who look alike in clusters of a fixed size do not become more with the gallery, and
the extrapolation is then too high. One line of JSON per size and kind.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

from study import append_record, run_study, study_parser

FPIR = 0.05  # at the smallest size, by whose threshold larger ones are measured


def study(args: argparse.Namespace) -> None:
    """Measure every size of both kinds; print and append a record of each."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # read when numpy loads, which is why it loads late
    for clustered in (False, True):
        base: dict[str, float] | None = None
        for size in sorted(args.sizes):
            record, base = measure(args, size, clustered, base)
            print(record, flush=True)
            append_record(args.out, "gallery_scale", record)


def measure(
    args: argparse.Namespace, size: int, clustered: bool, base: dict[str, float] | None
) -> tuple[dict[str, Any], dict[str, float]]:
    """Measure one size; returns its record, and the threshold at the smallest size.

    Args:
        args: The command line.
        size: Templates.
        clustered: Whether people look alike in clusters.
        base: Threshold and people of the smallest size; None: this one is it.
    """
    import numpy as np

    from cstl_edge.bench.gallery_crowds import make_gallery
    from cstl_edge.gallery.large_index import LARGE_FROM

    people = make_gallery(size, args.parts, args.dimensions, clustered=clustered)
    is_large = size > LARGE_FROM or args.two_stages
    start = time.process_time()
    index = people.large() if is_large else people.fast()
    record: dict[str, Any] = {
        "templates": size,
        "parts": args.parts,
        "dimensions": args.dimensions,
        "clustered": clustered,
        "way": "two stages" if is_large else type(index).__name__,
        "prepare_cpu_s": round(time.process_time() - start, 2),
    }
    rng = np.random.default_rng(1)
    walkers = np.sort(rng.choice(people.people, min(args.searches, people.people), replace=False))
    visits = people.visits(walkers, 2)
    found, cpu_ms = search(index, visits)
    record |= {
        "cpu_ms_p50": float(np.median(cpu_ms)),
        "cpu_ms_p95": float(np.quantile(cpu_ms, 0.95)),
    }
    record["walker_is_nearest"] = float(np.mean([f.argmin() for f in found] == walkers))
    strangers = people.strangers(args.searches, 3)
    far, _ = search(index, strangers)
    nearest = np.sort([f.min() for f in far])
    if size <= args.exact:
        some = strangers[: args.searches // 10]
        record |= against_exact(people.exact(), (visits, found), (some, far[: len(some)]))
    if base is None:
        base = {"threshold": float(np.quantile(nearest, FPIR)), "people": people.people}
    share = float(np.mean(nearest < base["threshold"]))
    more = people.people / base["people"]
    record |= {"fpir": share, "fpir_extrapolated": 1 - (1 - FPIR) ** more}
    return record, base


def against_exact(
    exact: Any, known: tuple[Any, list[Any]], strangers: tuple[Any, list[Any]]
) -> dict[str, float]:
    """Return how often the nearest person is that of the exact search, and the latter's CPU time.

    Args:
        exact: The exact index.
        known: Searches of people who are enrolled, and the distances that were found.
        strangers: The same of others.
    """
    import numpy as np

    shares = []
    for visits, found in (known, strangers):
        wanted, cpu_ms = search(exact, visits)
        same = [f.argmin() == w.argmin() for f, w in zip(found, wanted, strict=True)]
        shares.append((float(np.mean(same)), float(np.median(cpu_ms))))
    (recall, exact_ms), (of_strangers, _) = shares
    return {"recall": recall, "exact_cpu_ms_p50": exact_ms, "recall_of_strangers": of_strangers}


def search(index: Any, queries: Any) -> tuple[list[Any], list[float]]:
    """Return the distances of each query, and the CPU time of each search [ms]."""
    found, cpu_ms = [], []
    index.nearest(queries[:1], 2)
    for query in queries:
        start = time.process_time()
        found.append(index.nearest(query[None], 2))
        cpu_ms.append((time.process_time() - start) * 1e3)
    return found, cpu_ms


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument(
        "--exact", type=int, default=100_000, help="compare up to so many templates"
    )
    parser.add_argument("--two-stages", action="store_true", help="also below 50,000 templates")
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
