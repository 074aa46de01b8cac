"""`cstl-edge eval`: a model in the protocols of the field, printed as the paper prints them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cstl_edge.errors import ConfigError, one_line

if TYPE_CHECKING:
    from cstl_edge.evaluation.heldout import HeldOut
    from cstl_edge.runtime.base import EncoderInfo

Json = Annotated[bool, typer.Option("--json", help="print results as JSON")]


def evaluate(
    model: Annotated[
        Path | None,
        typer.Argument(help="exported folder or .safetensors (default: the shipped model)"),
    ] = None,
    data: Annotated[
        str,
        typer.Option(help="folder of `data prepare`, or walkers[:FIRST-LAST], made here"),
    ] = "walkers",
    protocol: Annotated[
        str,
        typer.Option(help="auto, casia-b, ou-mvlp, cross-view-gallery, gait3d or open-set"),
    ] = "auto",
    split: Annotated[
        str,
        typer.Option(help="whom to test: field, first-5153 (OU-MVLP, paper's wording) or all"),
    ] = "field",
    partition: Annotated[
        Path | None,
        typer.Option(
            help="JSON with TEST_SET and PROBE_SET, as Gait3D has it, in place of a split"
        ),
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, onnxruntime, tensorrt or pytorch")] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="of an exported folder: float32, fp16 or int8")
    ] = None,
    fpir: Annotated[
        str, typer.Option(help="open-set: wanted rates of false alarms, by commas")
    ] = "0.001,0.003,0.01,0.1",
    drop_unmated: Annotated[
        bool | None,
        typer.Option(help="leave out probes who are not in the gallery (default: gait3d alone)"),
    ] = None,
    min_frames: Annotated[int, typer.Option(help="shorter sequences fail to enrol")] = 1,
    max_frames: Annotated[int, typer.Option(help="frames of a sequence that count")] = 720,
    batch_frames: Annotated[int, typer.Option(help="frames embedded together")] = 720,
    workdir: Annotated[
        Path, typer.Option(help="where embeddings are kept: a killed run goes on")
    ] = Path("runs/eval"),
    out: Annotated[
        Path | None, typer.Option(help="append the record to this file of JSON lines")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown tables")] = False,
    json: Json = False,
) -> None:
    """Evaluate a model as the field does: rank-k, mAP, mINP by view, or FNIR at FPIR."""
    from cstl_edge.evaluation.embed import EmbedOptions, embed
    from cstl_edge.evaluation.evaluate import evaluate as figures
    from cstl_edge.evaluation.heldout import held_out
    from cstl_edge.evaluation.protocols import check_protocol
    from cstl_edge.measure import append_jsonl
    from cstl_edge.runtime import load

    check_protocol(protocol)
    rates, options = _rates(fpir), EmbedOptions(batch_frames, min_frames, max_frames)
    encoder = load(model, backend, precision=precision)
    held = held_out(data, encoder.info.size, split, partition)
    with _told("embedding") as tell:
        embedded = embed(
            encoder, held.data, workdir, held.rows, options=options, source=held.source, tell=tell
        )
    encoder.close()
    wanted = held.protocol if protocol == "auto" else protocol
    result = figures(embedded, wanted, fpirs=rates, probe=held.probe, drop_unmated=drop_unmated)
    record = _record(encoder.info, held, split, options.__dict__, result)
    if wanted == "open-set":
        record["det_files"] = _write_det(embedded.folder, result, encoder.info.model_name)
    if out is not None:
        append_jsonl(out, record)
    _print(record, held, markdown, json)


def _rates(text: str) -> list[float]:
    try:
        rates = [float(rate) for rate in text.split(",")]
    except ValueError as err:
        raise ConfigError(
            f"--fpir: expected rates such as 0.01, by commas; got {one_line(text)!r}"
        ) from err
    if not all(0 < rate < 1 for rate in rates):
        raise ConfigError(f"--fpir: expected rates between 0 and 1, got {one_line(text)}")
    return rates


@contextmanager
def _told(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how far a long work is, and how long it will take."""
    from cstl_edge.cli_show import progress

    with progress(what) as update:
        begun: list[tuple[float, int]] = []

        def tell(done: int, total: int) -> None:
            now = time.monotonic()
            if not begun:
                begun.append((now, done))
            start, first = begun[0]
            left = (total - done) * (now - start) / (done - first) if done > first else None
            more = "" if left is None else f", {left / 60:.0f} min left"
            update(f"{what}: {done:,} of {total:,} sequences{more}")

        yield tell


def _record(
    info: EncoderInfo,
    held: HeldOut,
    split: str,
    options: Mapping[str, int],
    result: Mapping[str, Any],
) -> dict[str, Any]:
    from cstl_edge.measure import environment

    return {
        "benchmark": "evaluation",
        "model": info.model_name,
        "weights_sha256": info.weights_sha256,
        "backend": info.backend,
        "provider": info.provider,
        "precision": info.precision,
        "data": held.said,
        "kind": held.kind,
        "split": split,
        "options": dict(options),
        **result,
        "environment": environment(),
    }


def _write_det(folder: Path, result: Mapping[str, Any], model: str) -> list[str]:
    """Write the DET curve beside the embeddings, as a picture and as points."""
    import json

    from cstl_edge.evaluation.det import write_det

    picture, points = folder / "det.png", folder / "det.json"
    write_det(result, picture, f"DET of {one_line(model, 40)}, mean of {result['splits']} splits")
    points.write_text(json.dumps(result["det"]), encoding="utf-8")
    return [str(picture), str(points)]


def _print(record: Mapping[str, Any], held: HeldOut, markdown: bool, as_json: bool) -> None:
    from cstl_edge.cli_show import show
    from cstl_edge.evaluation.tables import markdown as as_markdown
    from cstl_edge.evaluation.tables import notes, tables, text

    sha256 = record["weights_sha256"][:12] or "not on disk"
    head = (
        f"{record['model']} ({record['backend']} {record['precision']}, weights {sha256}) on "
        f"{held.said}: protocol {record['protocol']}"
    )
    form = as_markdown if markdown else text
    parts = [head, *(form(table) for table in tables(record)), "\n".join(notes(record))]
    if "det_files" in record:
        parts.append(f"DET curve: {', '.join(record['det_files'])}")
    show(record, "\n\n".join(parts), as_json)
