"""Verb `eval`: evaluate a model in the protocols of the field, printed as the paper prints them."""

from __future__ import annotations

import json as jsons
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cstl_edge.cli.console import print_result, progress, table_text
from cstl_edge.cli.options import Backend, Json, Markdown, Overwrite
from cstl_edge.cli.outputs import claim, record_lines
from cstl_edge.errors import ConfigError, one_line

if TYPE_CHECKING:
    from cstl_edge.evaluation.embed import EmbeddedSet, EmbedOptions
    from cstl_edge.evaluation.held_out import HeldOut
    from cstl_edge.runtime.base import Encoder, EncoderInfo

Model = Annotated[
    Path | None,
    typer.Argument(help="Exported folder or .safetensors checkpoint (default: the shipped model)."),
]
Data = Annotated[
    str,
    typer.Option(
        help="Folder of `data prepare`, or made here: walkers or walkers2 (second generator), "
        "both with :FIRST-LAST, or walkers:shifted (people, clothes, pictures never trained on)."
    ),
]
Protocol = Annotated[
    Literal["auto", "casia-b", "ou-mvlp", "cross-view-gallery", "gait3d", "open-set"],
    typer.Option(help="Protocol of the evaluation; auto takes that of the data."),
]
Split = Annotated[
    str, typer.Option(help="Whom to test: field, first-5153 (OU-MVLP, the paper's wording) or all.")
]
Partition = Annotated[
    Path | None,
    typer.Option(
        help="JSON file with TEST_SET and PROBE_SET, as Gait3D has it, in place of a split."
    ),
]
Precision = Annotated[
    Literal["float32", "fp16", "int8", "bfloat16"] | None,
    typer.Option(help="Precision of an exported folder (default: the one that it names)."),
]
Fpir = Annotated[str, typer.Option(help="Rates of false alarms for open-set, separated by commas.")]
DropUnmated = Annotated[
    bool | None,
    typer.Option(help="Leave out probes who are not in the gallery (default: with gait3d alone)."),
]
DistanceRule = Annotated[
    Literal["euclidean", "model"],
    typer.Option(
        help="By what sequences are compared: euclidean, as the field does, or the model's own "
        "distance under the mean of all of them, as a camera has it after a while."
    ),
]
Workdir = Annotated[
    Path, typer.Option(help="Folder where embeddings are kept; a stopped run goes on from them.")
]
Out = Annotated[Path | None, typer.Option(help="Append the record to this file of JSON lines.")]


def evaluate(
    model: Model = None,
    data: Data = "walkers",
    protocol: Protocol = "auto",
    split: Split = "field",
    partition: Partition = None,
    backend: Backend = "auto",
    precision: Precision = None,
    fpir: Fpir = "0.001,0.003,0.01,0.1",
    drop_unmated: DropUnmated = None,
    distance: DistanceRule = "euclidean",
    min_frames: Annotated[
        int, typer.Option(min=1, help="Frames below which a sequence is not enrolled.")
    ] = 1,
    max_frames: Annotated[
        int, typer.Option(min=1, help="Frames of a sequence that count, the first ones.")
    ] = 720,
    batch_frames: Annotated[int, typer.Option(min=1, help="Frames embedded together.")] = 720,
    workdir: Workdir = Path("runs/eval"),
    out: Out = None,
    overwrite: Overwrite = False,
    markdown: Markdown = False,
    json: Json = False,
) -> None:
    """Evaluate a model as the field does: rank-k, mAP, mINP by view, or FNIR at FPIR."""
    from cstl_edge.evaluation.embed import EmbedOptions
    from cstl_edge.evaluation.evaluate import evaluate as evaluate_protocol
    from cstl_edge.evaluation.held_out import held_out
    from cstl_edge.evaluation.protocols import check_protocol
    from cstl_edge.runtime import load

    claim([model, data, partition], out, "--out", overwrite, is_ours=is_evaluation)
    check_protocol(protocol)
    rates, options = _rates(fpir), EmbedOptions(batch_frames, min_frames, max_frames)
    encoder = load(model, backend, precision=precision)
    with progress("reading the data") as bar:
        test_people = held_out(data, encoder.info.size, split, partition, progress=bar.count)
    embedded = _embedded(encoder, test_people, workdir, options, distance)
    protocol_name = test_people.protocol if protocol == "auto" else protocol
    result = evaluate_protocol(
        embedded, protocol_name, fpirs=rates, probe=test_people.probe, drop_unmated=drop_unmated
    )
    record = _record(encoder.info, test_people, options, embedded.labelled.distance.name, result)
    if protocol_name == "open-set":
        record["det_files"] = _write_det(embedded.folder, result, encoder.info.model_name)
    if out is not None:
        with record_lines(out, is_evaluation, overwrite) as lines:
            lines.write(record)
    _print(record, markdown, json)


def is_evaluation(record: Mapping[str, Any]) -> bool:
    """Tell whether a JSON line is a record of `eval`."""
    return record.get("benchmark") == "evaluation"


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


def _embedded(
    encoder: Encoder,
    test_people: HeldOut,
    workdir: Path,
    options: EmbedOptions,
    distance: str,
) -> EmbeddedSet:
    """Embed, show the progress on a terminal, and close the encoder; set the distance."""
    from cstl_edge.evaluation.embed import embed

    with progress("embedding sequences") as bar:
        embedded = embed(
            encoder,
            test_people.data,
            workdir,
            test_people.rows,
            options=options,
            source=test_people.source,
            progress=bar.count,
        )
    encoder.close()
    if distance == "model":
        labelled = embedded.labelled.compared_by(encoder.info.distance)
        return replace(embedded, labelled=labelled)
    return embedded


def _record(
    info: EncoderInfo,
    test_people: HeldOut,
    options: EmbedOptions,
    distance: str,
    result: Mapping[str, Any],
) -> dict[str, Any]:
    from cstl_edge.measure.environment import environment

    return {
        "benchmark": "evaluation",
        "model": info.model_name,
        "weights_sha256": info.weights_sha256,
        "backend": info.backend,
        "provider": info.provider,
        "precision": info.precision,
        "data": test_people.description,
        "kind": test_people.kind,
        "distance": distance,
        "options": asdict(options),
        **result,
        "environment": environment(),
    }


def _write_det(folder: Path, result: Mapping[str, Any], model: str) -> list[str]:
    """Write the DET curve beside the embeddings, as a picture and as points."""
    from cstl_edge.evaluation.det import write_det
    from cstl_edge.output import write_file

    picture, points = folder / "det.png", folder / "det.json"
    write_det(result, picture, f"DET of {one_line(model, 40)}, mean of {result['splits']} splits")
    write_file(points, jsons.dumps(result["det"]))
    return [str(picture), str(points)]


def _print(record: Mapping[str, Any], markdown: bool, as_json: bool) -> None:
    from cstl_edge.evaluation.tables import format_tables, notes

    sha256 = record["weights_sha256"][:12] or "not on disk"
    head = (
        f"{record['model']} ({record['backend']} {record['precision']}, weights {sha256}) on "
        f"{record['data']}: protocol {record['protocol']}, {record['distance']} distance"
    )
    texts = [table_text(table, markdown=markdown) for table in format_tables(record)]
    parts = [head, *texts, "\n".join(notes(record))]
    if "det_files" in record:
        parts.append(f"DET curve: {', '.join(record['det_files'])}")
    print_result(record, "\n\n".join(parts), as_json)
