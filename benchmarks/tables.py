"""Write down the tables whose rows `cstl-edge reproduce` has trained, finished or not.

python benchmarks/tables.py --budget small --out benchmarks/results/MACHINE/tables.md

Trains nothing. Beside the Markdown a file of JSON lines of the same name keeps each row's figures,
everybody's share of hits (intervals and differences follow from them), configuration, machine and
commit. Both are written anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from study import run_study

from cstl_edge.output import write_file
from cstl_edge.reproduce.report import notes, summary, tables_to_print
from cstl_edge.reproduce.rows import PAPER, plan_row
from cstl_edge.training.presets import load_table

TABLES = ("table3", "table4", "table5", "parts")


def report_of(args: argparse.Namespace, name: str) -> tuple[list[str], dict[str, Any]]:
    """Return a table in lines of Markdown, and as a record."""
    plan = load_table(name)
    folder = Path(args.folder)
    rows = [plan_row(plan, x, args.data, folder, budget=args.budget) for x in plan.rows]
    report = summary(plan, rows)
    command = f"cstl-edge reproduce {name} --budget {args.budget}"
    if args.data != ["walkers"]:
        command += " --data FOLDER" * len(args.data)
    lines = [f"## {name}", "", f"`{command}`", ""]
    for table in tables_to_print(plan, report):
        lines += [table.markdown(), ""]
    record = {"table": name, "budget": args.budget, **report}
    return [*lines, *(f"- {note}" for note in notes(plan, report)), ""], record


def budget_lines(records: Iterable[dict[str, Any]]) -> list[str]:
    """Return the configuration and the machines of all rows in words."""
    rows = list(records)
    if not rows:
        return ["No row is finished yet."]
    configuration = rows[0]["configuration"]
    sampler, run, network = (configuration[key] for key in ("sampler", "run", "model"))
    machines = sorted({f"{r['environment']['cpu']}, {r['environment']['cores']} cores, "
                       f"{r['environment']['vector']}" for r in rows})  # fmt: skip
    commits = sorted({str(r["environment"]["commit"]) for r in rows})
    minutes = sorted(r["minutes"] for r in rows)
    return [
        f"Every row: widths {network['widths']}, {run['iterations']:,} iterations of "
        f"{sampler['people']}×{sampler['sequences']} sequences of {sampler['frames']} frames, "
        f"{run['precision']}, seed {run['seed']}; {minutes[0]:.0f} to {minutes[-1]:.0f} minutes of "
        f"{run['threads'] or 'all'} thread(s), with other work beside.",
        "",
        f"Machine: {'; '.join(machines)}. Evaluated at commit {', '.join(commits)}.",
    ]


def study(args: argparse.Namespace) -> None:
    """Write both files."""
    args.data = args.data or ["walkers"]
    tables = [report_of(args, name) for name in args.tables.split(",")]
    records = [r["record"] for _, record in tables for r in record["rows"] if r["record"]]
    head = [f"# Rows of the paper's tables on {', '.join(args.data)}", "", *budget_lines(records)]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_file(args.out, "\n".join([*head, "", *(line for lines, _ in tables for line in lines)]))
    write_file(args.out.with_suffix(".jsonl"), "".join(f"{json.dumps(t)}\n" for _, t in tables))
    print(args.out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", default=PAPER, help="as for cstl-edge reproduce")
    parser.add_argument("--data", action="append", help="as for cstl-edge reproduce")
    parser.add_argument("--folder", default="runs/reproduce", help="where the rows are")
    parser.add_argument("--tables", default=",".join(TABLES), help="by commas")
    parser.add_argument("--out", required=True, type=Path, help="the .md file")
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
