"""The verb `bench report`: result files in, one page that stands alone out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cstl_edge.errors import DataError, one_line


def report(
    files: Annotated[
        list[Path],
        typer.Argument(help="results of cstl-edge bench (.jsonl), of a board (.zip), of trtexec"),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="page to write")] = Path(
        "bench.html"
    ),
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="write the tables in Markdown too")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="compare with the results in this file, or of this commit in FILES"),
    ] = None,
) -> None:
    """Make one page of results: tables, pictures, and what two machines or commits differ in."""
    from cstl_edge.bench.report.build import report as build
    from cstl_edge.bench.report.page import html, text
    from cstl_edge.cli_show import say

    made = build(files, against, say)
    _write(output, html(made))
    if markdown is not None:
        _write(markdown, text(made))


def _write(path: Path, text: str) -> None:
    """Write a file and say where it is (DataError)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as err:
        raise DataError(f"cannot write {one_line(path)}: {one_line(err)}") from err
    print(path)
