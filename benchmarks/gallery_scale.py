"""Measure searches of galleries from 1,000 to 1,000,000 templates: CPU time, recall, FPIR.

python benchmarks/gallery_scale.py --sizes 1000 10000 100000 1000000 --out gallery_scale.jsonl
python benchmarks/gallery_scale.py --sizes 1000000 --on-disk /mnt/ssd      # through a gallery file

Made-up people, random and in clusters who look alike (`cstl_edge.bench.gallery_crowds`), 5
templates each. Per size and kind: process CPU time of one search; recall, how often the nearest
person is that of the exact search over all templates, of people who are enrolled and of strangers;
how long adding takes. The rate of strangers below a threshold (FPIR) is extrapolated from the size
before, by the threshold that lets BASE_FPIR in there: 1 - (1 - BASE_FPIR)^(N / N0), and compared
with the rates of the exact search and of the gallery's own; --enrolled-only leaves strangers out,
which halves what the comparison with all templates costs. People who look alike in clusters of a
fixed size do not become more with the gallery, and the extrapolation is then too high. With
--on-disk a gallery file is filled and opened, and `Gallery.identify` is measured, which reads its
candidates from it. One line of JSON per size and kind.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from study import append_record, run_study, study_parser

BASE_FPIR = 0.02  # at the size before, by whose threshold a size is measured
BATCH = 2000  # people written at once


def study(args: argparse.Namespace) -> None:
    """Measure every size of each kind; print and append a record of each."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # read when numpy loads, which is why it loads late
    for clustered in [kind == "clustered" for kind in args.kinds]:
        base: dict[str, float] | None = None
        for size in sorted(args.sizes):
            record, base = measure(args, size, clustered, base)
            print(record, flush=True)
            append_record(args.out, "gallery_scale", record)


def measure(
    args: argparse.Namespace, size: int, clustered: bool, base: dict[str, float] | None
) -> tuple[dict[str, Any], dict[str, float]]:
    """Measure one size; returns its record, and the threshold for the next size.

    Args:
        args: The command line.
        size: Templates.
        clustered: Whether people look alike in clusters.
        base: Threshold and people of the size before; None: this is the first.
    """
    import numpy as np

    from cstl_edge.bench.gallery_crowds import make_gallery
    from cstl_edge.gallery.large_index import LARGE_FROM

    people = make_gallery(size, args.parts, args.dimensions, clustered=clustered)
    is_large = size > LARGE_FROM or args.two_stages
    rng = np.random.default_rng(1)
    walkers = np.sort(rng.choice(people.people, min(args.searches, people.people), replace=False))
    record: dict[str, Any] = {"templates": size, "searches": len(walkers), "parts": args.parts}
    record |= {"dimensions": args.dimensions, "clustered": clustered}
    visits, strangers = people.visits(walkers, 2), people.strangers(args.searches, 3)
    if args.on_disk is not None:
        return record | on_disk(args.on_disk, people, walkers), base or {}
    start = time.process_time()
    index = people.large() if is_large else people.fast()
    record["way"] = "two stages" if is_large else type(index).__name__
    record["prepare_cpu_s"] = round(time.process_time() - start, 2)
    found, _, cpu_ms = search(index, visits)
    record |= {
        "cpu_ms_p50": float(np.median(cpu_ms)),
        "cpu_ms_p95": float(np.quantile(cpu_ms, 0.95)),
        "walker_is_nearest": float(np.mean(found == walkers)),
    }
    if args.timings_only:
        return record, {}
    exact, _ = people.exact_nearest(visits)
    record["recall"] = float(np.mean(found == exact))
    record["missed"] = int((found != exact).sum())
    if args.enrolled_only:
        return record, {}
    far, nearest, _ = search(index, strangers)
    of_strangers, exactly = people.exact_nearest(strangers)
    record["recall_of_strangers"] = float(np.mean(far == of_strangers))
    if base:
        record |= false_positives(base, people.people, nearest, exactly)
    threshold = float(np.quantile(exactly, BASE_FPIR))
    return record, {"threshold": threshold, "people": people.people}


def false_positives(
    base: dict[str, float], people: int, nearest: Any, exactly: Any
) -> dict[str, float]:
    """Return FPIR at the threshold of the size before: extrapolated, and as it is.

    Args:
        base: Threshold and people of the size before.
        people: People now.
        nearest: Distances of strangers to the nearest, as the search has them, [k].
        exactly: The same by comparison with all templates, [k].
    """
    return {
        "fpir_extrapolated": 1 - (1 - BASE_FPIR) ** (people / base["people"]),
        "fpir_exact_search": float((exactly < base["threshold"]).mean()),
        "fpir": float((nearest < base["threshold"]).mean()),
    }


def search(index: Any, queries: Any) -> tuple[Any, Any, list[float]]:
    """Return the nearest person of each query and the distance, [k], and the CPU times [ms]."""
    import numpy as np

    found, distances, cpu_ms = [], [], []
    index.nearest(queries[:1], 2)
    for query in queries:
        start = time.process_time()
        row = index.nearest(query[None], 2)
        cpu_ms.append((time.process_time() - start) * 1e3)
        found.append(int(row.argmin()))
        distances.append(float(row.min()))
    return np.array(found), np.array(distances), cpu_ms


def on_disk(folder: Path, people: Any, walkers: Any) -> dict[str, Any]:
    """Fill a gallery file, open it and identify; the file stays, and is used again.

    Args:
        folder: Where the file is.
        people: The made-up gallery.
        walkers: [k], who walks by.
    """
    from types import SimpleNamespace

    import numpy as np

    from cstl_edge.gallery.gallery import Gallery

    kind = "clustered" if people.clustered else "random"
    path = folder / f"gallery_{len(people.rows)}_{kind}.db"
    if not path.exists():
        fill(path, people)
    info = SimpleNamespace(
        weights_sha256="a" * 64, impostors=None, confidence=None, distance=people.distance
    )
    record: dict[str, Any] = {"way": "file"}
    rows = people.raw_visits(walkers, 2)
    for opening in ("first", "again"):
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        with Gallery.open(path, SimpleNamespace(info=info)) as gallery:
            gallery.identify(rows[0], threshold=0.9, learn=False)
            record[f"{opening}_answer_cpu_s"] = round(time.process_time() - cpu_s, 2)
            record[f"{opening}_answer_s"] = round(time.perf_counter() - wall_s, 2)
            names, cpu_ms = [], []
            for row in rows:
                begun = time.process_time()
                names.append(gallery.identify(row, threshold=0.9, learn=False).name)
                cpu_ms.append((time.process_time() - begun) * 1e3)
    right = [name == f"person {i}" for name, i in zip(names, walkers, strict=True)]
    return record | {
        "cpu_ms_p50": float(np.median(cpu_ms)),
        "cpu_ms_p95": float(np.quantile(cpu_ms, 0.95)),
        "named_rightly": float(np.mean(right)),
        "file_mb": round(path.stat().st_size / 1e6),
        "index_mb": round(path.with_name(path.name + "-index").stat().st_size / 1e6),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "of_it_made_up_mb": round(people.rows.nbytes / 1e6),
    }


def fill(path: Path, people: Any) -> None:
    """Write a gallery file of made-up people, many in one transaction each."""
    from cstl_edge.bench.gallery_crowds import EACH
    from cstl_edge.gallery.people import utc_now, utc_timestamp
    from cstl_edge.gallery.records import PersonRecord, WalkOrigin
    from cstl_edge.gallery.rows import Rows
    from cstl_edge.gallery.store import GalleryStore, NewWalk
    from cstl_edge.gallery.stored_people import StoredEnrolment

    part, now = path.with_suffix(".part"), utc_timestamp(utc_now())
    part.unlink(missing_ok=True)
    rows = Rows(part, create=True, reserve=False)
    store = GalleryStore(rows, utc_now)
    for start in range(0, people.people, BATCH):
        with rows.change() as head:
            for i in range(start, min(start + BATCH, people.people)):
                vectors = people.rows[i * EACH : (i + 1) * EACH]
                walk = NewWalk(
                    vectors=vectors,
                    weights_sha256="a" * 64,
                    consent="made up",
                    retention_days=None,
                    origin=WalkOrigin(),
                )
                record = walk.record(now)
                record.templates = [*range(i * EACH + 1, (i + 1) * EACH + 1)]
                person = PersonRecord(name=f"person {i}", created_utc=now, enrolments=[i + 1])
                store.write_person(i + 1, person)
                store._insert_walk(StoredEnrolment(i + 1, i + 1, record), walk)
                head.people += 1
    rows.close()
    part.rename(path)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--kinds", nargs="+", choices=("random", "clustered"),
                        default=["random", "clustered"])  # fmt: skip
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--two-stages", action="store_true", help="also below 50,000 templates")
    parser.add_argument("--timings-only", action="store_true", help="no recall, no FPIR")
    parser.add_argument("--enrolled-only", action="store_true", help="no strangers, no FPIR")
    parser.add_argument("--on-disk", type=Path, metavar="FOLDER", help="search a gallery file")
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
