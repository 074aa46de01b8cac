"""Look through a source as preparing it would, and write nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cstl_edge.data.frames import Settings
from cstl_edge.data.layouts import find_recordings
from cstl_edge.data.plan import examine, plan
from cstl_edge.data.report import LINK, Drop, Report, summarise
from cstl_edge.data.workers import Tell, run_jobs


def look_through(
    source: str | Path, settings: Settings, *, workers: int = 2, tell: Tell | None = None
) -> tuple[Report, list[Drop]]:
    """Read a source as `prepare` does, and write nothing: return the report and every drop."""
    tree = find_recordings(source, settings.dataset, partial=settings.partial)
    jobs = plan(tree, settings)
    read = partial(examine, root=tree.root, settings=settings)
    results: dict[int, tuple[int, list[Drop]]] = {}
    for place, result in run_jobs(read, jobs, workers):
        results[place] = result
        if tell:
            tell(sum(len(jobs[i].recordings) for i in results), len(tree.recordings))
    drops = [Drop(link, LINK) for link in tree.links]
    drops += [drop for place in sorted(results) for drop in results[place][1]]
    files = len(tree.links) + sum(files for files, _ in results.values())
    return summarise(drops, files, tree.notes), drops
