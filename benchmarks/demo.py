"""Run the demo over many seeds and count, failures included.

python benchmarks/demo.py --seeds 20 --out benchmarks/results/<device>/demo.jsonl

The real clip is the same for every seed and runs once.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from cstl_edge.demo import run_demo
from cstl_edge.errors import CstlEdgeError
from cstl_edge.measure import append_jsonl, environment


def one_seed(seed: int, scenes: tuple[str, ...]) -> dict[str, Any]:
    """Run one demo; a failure is a result."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return run_demo(Path(folder), seed=seed, scenes=scenes)
        except CstlEdgeError as err:
            return {"seed": seed, "walkers": [], "error": str(err)}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", help="append a record per seed and one of all to this file")
    args = parser.parse_args(argv)
    totals: Counter[str] = Counter()
    for seed in range(args.seeds):
        scenes = ("real", "street") if seed == 0 else ("street",)
        result = one_seed(seed, scenes)
        street = [row["verdict"] for row in result["walkers"] if row["scene"] == "street"]
        totals.update(street or ["failed run"])
        totals["failure to enrol"] += len(result.get("not_enrolled", []))
        print(seed, result.get("seconds"), Counter(street) or result.get("error"), flush=True)
        if args.out:
            kept = {key: value for key, value in result.items() if key not in ("lines", "folder")}
            append_jsonl(args.out, {"benchmark": "demo", **kept})
    record = {"seeds": args.seeds, "street": dict(totals), "environment": environment()}
    print(record)
    if args.out:
        append_jsonl(args.out, {"benchmark": "demo, all seeds", **record})
    return 0


if __name__ == "__main__":
    sys.exit(main())
