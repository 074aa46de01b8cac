"""Measure exact matching: one search of a gallery on one core, by layout and by 8-bit products.

python benchmarks/gallery.py                           # 10,000 templates of 32 x 256
python benchmarks/gallery.py --templates 1000 --out benchmarks/results/gallery.jsonl
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from study import append_record, run_study, study_parser

from cstl_edge.measure.stats import summary

PER_PERSON = 5  # templates of one person


def measure(templates: int, parts: int, dimensions: int, repeats: int) -> dict[str, Any]:
    """Time one search [ms]: Euclidean as [p, d, n] and [p, n, d]; cosine, plain and by 8 bits.

    The latter two search 5 templates of each person and their mean.

    Args:
        templates: Number of templates.
        parts: Number of parts of an embedding.
        dimensions: Dimensions of a part.
        repeats: Number of timed searches.
    """
    import numpy as np

    from cstl_edge.bench.gallery_crowds import make_gallery
    from cstl_edge.gallery.index import TemplateIndex

    rng = np.random.default_rng(0)
    held = rng.standard_normal((parts, dimensions, templates), dtype=np.float32)  # [p, d, n]
    starts = np.arange(0, templates, PER_PERSON)
    index = TemplateIndex(tuple(f"person {i}" for i in starts), starts, held)
    turned = np.ascontiguousarray(held.transpose(0, 2, 1))  # [p, n, d]
    stranger = rng.standard_normal((1, parts, dimensions), dtype=np.float32)
    known = np.ascontiguousarray(held[:, :, :1].transpose(2, 0, 1)) + stranger * np.float32(0.01)

    def search_turned() -> Any:
        nearest = np.zeros(templates, np.float32)
        for part, norms, query in zip(turned, index.norms, stranger[0], strict=True):
            squared = norms - 2 * (part @ query) + query @ query
            nearest += np.sqrt(np.maximum(squared, 0))
        return np.minimum.reduceat(nearest / np.float32(parts), starts)

    np.testing.assert_allclose(search_turned(), index.person_distances(stranger)[0], rtol=1e-3)
    people = make_gallery(templates, parts, dimensions)
    exact, eight_bit = people.exact(), people.fast()
    visitor = people.visits(np.array([people.people // 2]), 1)
    return {
        "templates": templates,
        "parts": parts,
        "dimensions": dimensions,
        "pdn_ms": summary(samples(lambda: index.person_distances(stranger), repeats)),
        "pdn_known_walker_ms": summary(samples(lambda: index.person_distances(known), repeats)),
        "pnd_ms": summary(samples(search_turned, repeats)),
        "cosine_ms": summary(samples(lambda: exact.nearest(visitor, 2), repeats)),
        "cosine_8_bit_ms": summary(samples(lambda: eight_bit.nearest(visitor, 2), repeats)),
    }


def samples(call: Callable[[], Any], repeats: int) -> list[float]:
    """Return the durations [ms] of so many calls, after two to warm up."""
    durations_ms = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call()
        durations_ms.append((time.perf_counter() - start) * 1e3)
    return durations_ms[2:]


def study(args: argparse.Namespace) -> None:
    """Measure, print medians, append the record."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # read when numpy loads, which is why it loads late
    record = measure(args.templates, args.parts, args.dimensions, args.repeats)
    print(f"{args.templates} templates of {args.parts} x {args.dimensions}, one core")
    for key in ("pdn_ms", "pdn_known_walker_ms", "pnd_ms", "cosine_ms", "cosine_8_bit_ms"):
        print(f"  {key:<20} p50 {record[key]['p50_ms']:7.2f}  p99 {record[key]['p99_ms']:7.2f}")
    append_record(args.out, "gallery", record)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("--templates", type=int, default=10_000)
    parser.add_argument("--parts", type=int, default=32)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=50)
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
