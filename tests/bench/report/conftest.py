"""Fixtures of the report: pages and chapters built from rows."""

from functools import partial

import pytest

from cstl_edge.bench.record import write_rows


@pytest.fixture(scope="session")
def bench_extra():
    for name in ("jinja2", "matplotlib", "scipy"):
        pytest.importorskip(name, reason="needs the extra bench")


@pytest.fixture(scope="session")
def report_in(bench_extra):
    """The report of lists of rows, each written to a file of a folder."""
    from cstl_edge.bench.report.build import build_report

    def build(folder, *files, more=(), against=None):
        paths = [folder / f"{k}.jsonl" for k in range(len(files))]
        for path, rows in zip(paths, files, strict=True):
            write_rows(path, rows)
        return build_report([*paths, *more], against)

    return build


@pytest.fixture
def report_of(report_in, tmp_path):
    return partial(report_in, tmp_path)


@pytest.fixture
def chapter_of(report_of):
    """The one chapter that rows (and files) make."""

    def chapter(rows, *files):
        (only,) = report_of(rows, more=files).chapters
        return only

    return chapter
