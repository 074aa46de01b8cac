"""Verbs `export` and `import-released`: from weights to ONNX graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cstl_edge.cli.console import needs_torch, print_result, progress
from cstl_edge.cli.options import Graphs, Json, Overwrite
from cstl_edge.cli.outputs import claim
from cstl_edge.errors import ConfigError

if TYPE_CHECKING:
    from cstl_edge.export.checks.accuracy_gate import GateReport
    from cstl_edge.runtime.manifest import Manifest

Matching = Annotated[
    Literal["cosine", "euclidean", "none"] | None,
    typer.Option(
        help="Distance between walks; its statistics, thresholds and confidence are measured on "
        "Walkers, which takes minutes. none: euclidean, without thresholds (default: cosine where "
        "frames and head are written)."
    ),
]
Weights = Annotated[
    Path, typer.Argument(help="A .safetensors checkpoint; with --triton also an exported folder.")
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Folder to write; of an exported folder none.")
]
Precisions = Annotated[
    str,
    typer.Option(
        help="Precisions, separated by commas: fp16, int8, bfloat16; float32 is always written."
    ),
]
People = Annotated[
    int | None, typer.Option(min=2, help="Number of Walkers on whom precisions are judged.")
]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        help="Silhouettes of a walk, or a folder of such folders, on which int8 is calibrated "
        "(default: Walkers)."
    ),
]
Joint = Annotated[
    Path | None,
    typer.Option(
        help="Joint projection for matching by cosine: a file of train/fit_joint.py, or an "
        "exported folder that has one."
    ),
]
Triton = Annotated[
    Path | None,
    typer.Option(help="Model repository for NVIDIA Triton to write from the exported folder."),
]
TritonKind = Annotated[
    Literal["auto", "tensorrt_plan", "onnxruntime", "python"],
    typer.Option(
        help="What Triton runs: engines that were built without the plugin, ONNX graphs, or our "
        "own runtime in Triton's python backend; auto: engines where there are, else ONNX graphs."
    ),
]
INCREMENTAL_GRAPHS = 3  # that come with a head


def export(
    weights: Weights,
    output: Output = None,
    graphs: Graphs = "frames,head,full",
    simplify: Annotated[bool, typer.Option(help="Simplify the graphs, in a child process.")] = True,
    precision: Precisions = "float32",
    calibrate: Calibrate = None,
    people: People = None,
    matching: Matching = None,
    joint: Joint = None,
    triton: Triton = None,
    triton_kind: TritonKind = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Turn trained weights into ONNX graphs and a manifest, and compare them with PyTorch."""
    if triton is not None:
        claim([weights, output], triton, "--triton", overwrite, is_folder=True)
    if weights.is_dir() and output is None and triton is not None:
        _write_repository(weights, triton, triton_kind, json)
        return
    if output is None:
        raise ConfigError("expected a folder to write: -o FOLDER")
    with needs_torch("export", "export"):
        from cstl_edge.export.export_model import export_model
        from cstl_edge.export.quantization import calibration_data
    claim([weights, calibrate, joint], output, "-o", overwrite, is_folder=True)
    names, precisions = tuple(graphs.split(",")), precision.split(",")
    distance = matching or ("cosine" if {"frames", "head"} <= set(names) else "none")
    with progress("exporting", steps=_steps(names, precisions, distance)) as bar:
        manifest = export_model(
            weights,
            output,
            graphs=names,
            simplify=simplify,
            precisions=precisions,
            gather=lambda size: calibration_data.gather(
                size, people or calibration_data.PEOPLE, calibrate
            ),
            matching=None if distance == "none" else distance,
            joint=joint,
            progress=bar,
        )
    if triton is None or not json:  # one object on stdout: the last
        _print_export(manifest, output, json)
    if triton is not None:
        _write_repository(output, triton, triton_kind, json)


def _write_repository(folder: Path, repository: Path, kind: str, as_json: bool) -> None:
    """Write a model repository and print its models."""
    from cstl_edge.export.triton import write_repository

    models = write_repository(folder, repository, kind)
    lines = [f"wrote {repository}", *(f"  {model}: {kind}" for model, kind in models.items())]
    lines.append("  use it: --model triton://HOST:8001/cstl")
    print_result({"repository": str(repository), "models": models}, lines, as_json)


def _steps(graphs: Sequence[str], precisions: Sequence[str], matching: str) -> int:
    """Return the number of steps of an export: two for each graph, two for each precision."""
    files = len(graphs) + ("head" in graphs) * INCREMENTAL_GRAPHS
    reduced = sum(name != "float32" for name in precisions)
    steps = 2 + 2 * files + 2 * reduced + 2 * bool(reduced)
    return steps + {"cosine": 2, "euclidean": 1, "none": 0}[matching]


def import_released(
    file: Annotated[
        Path, typer.Argument(help="Checkpoint of the released code: .ptm, .pth or .safetensors.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file to write.")],
    class_head: Annotated[
        bool, typer.Option("--class-head", help="Keep the classes of its training too.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Turn a checkpoint of the code that the paper's authors released into weights to export."""
    claim([file], output, "-o", overwrite, (".safetensors",))
    with needs_torch("import-released"):
        from cstl_edge.checkpoint.import_released import import_released as read_released
        from cstl_edge.checkpoint.weights import save_checkpoint
    network, about = read_released(file, class_head=class_head)
    digest = save_checkpoint(output, network, about, inference_only=not class_head)
    result = {"weights": str(output), "weights_sha256": digest, "config": network.config.to_dict()}
    (height, width), parts = network.config.size, network.config.parts
    lines = [
        f"wrote {output}: {height}x{width}, {parts} parts, {network.config.embedding} dimensions "
        f"each, sha256 {digest[:12]}…",
        f"  next: cstl-edge export {output} -o {output.with_suffix('')}",
    ]
    print_result({**result, "imported": about["imported"]}, lines, json)


def _print_export(manifest: Manifest, output: Path, as_json: bool) -> None:
    """Print files, largest errors and the loss of every reduced precision."""
    result = {
        "folder": str(output),
        "files": manifest.files,
        "parity": manifest.parity["graphs"],
        "precisions": {name: variant.judged for name, variant in manifest.precisions.items()},
        "cpu_default": manifest.cpu_default,
    }
    lines = [f"wrote {output}"] + [
        f"  {file}: {', '.join(_deviation(*output) for output in outputs.items())}"
        for file, outputs in manifest.parity["graphs"].items()
    ]
    for name, variant in manifest.precisions.items():
        lines += [f"  {name}, {where}: {_cost(report)}" for where, report in variant.judged.items()]
    reason = ""  # for the default of a CPU, where int8 could have been it
    if manifest.cpu_default == "int8":
        reason = " and it multiplies int8 fast"
    elif "int8" in manifest.precisions:
        reason = (
            ": int8 may cost half a point of rank-1 or more; --people 100 tells it more exactly"
        )
    if manifest.precisions:
        lines.append(f"  a CPU takes {manifest.cpu_default} when nobody says{reason}")
    print_result(result, lines, as_json)


def _deviation(output: str, measured: Mapping[str, float]) -> str:
    """Return how far an output is from PyTorch, in words.

    >>> _deviation("taps", {"max_abs_error": 2e-6, "max_abs_value": 20.0})
    'taps within 1e-07 of its largest value'
    >>> _deviation("salient_frames", {"compared": 160, "wrong": 0, "ties": 2})
    '0 of 160 salient frames differ (2 are tied)'
    """
    if "compared" in measured:
        ties = f" ({measured['ties']} are tied)" if measured["ties"] else ""
        return f"{measured['wrong']} of {measured['compared']} salient frames differ{ties}"
    error, largest = measured["max_abs_error"], measured["max_abs_value"]
    if error == 0:
        return f"{output} equal"
    return f"{output} within {error / largest:.0e} of its largest value"


def _cost(report: GateReport) -> str:
    """Return the loss of a precision against float32 in words."""
    rank1 = report["rank1"]
    before, after, loss = rank1["float32"], rank1["found"], rank1["lost"]
    words = [
        f"rank-1 across views {before['cross_view']:.4f} -> {after['cross_view']:.4f} (lost "
        f"{loss['points']:.2f} points, on more people surely below {loss['at_most_points']:.2f})",
        f"{report['decisions']['changed']} of {report['decisions']['compared']} searches changed",
        f"smallest cosine {report['cosine']['smallest']:.5f}",
    ]
    if flips := report.get("salient_frames"):
        tied, wrong, compared = flips["ties"], flips["wrong"], flips["compared"]
        words.append(f"salient frames: {tied} tied and {wrong} other flips of {compared}")
    return ", ".join(words)
