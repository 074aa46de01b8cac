"""The command line: one verb per function, whose heavy imports wait until the verb is chosen.

Results go to stdout (`--json` for machines), narration to stderr; the exit code says what kind of
thing went wrong (`errors`).
"""

from __future__ import annotations

import logging
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from cstl_edge import __version__
from cstl_edge.cli_bench import bench
from cstl_edge.cli_build import build
from cstl_edge.cli_data import data
from cstl_edge.cli_eval import evaluate
from cstl_edge.cli_import import import_released
from cstl_edge.cli_reproduce import figure, reproduce
from cstl_edge.cli_train import train
from cstl_edge.errors import CstlEdgeError


class Side(str, Enum):
    """Of the picture."""

    LEFT = "left"
    RIGHT = "right"


app = typer.Typer(
    name="cstl-edge",
    help="Recognise people by their walk. Begin with `cstl-edge demo`; `cstl-edge doctor` tells "
    "what this machine has.",
    invoke_without_command=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
people = typer.Typer(help="List, show or remove the people of a gallery.", no_args_is_help=True)
app.add_typer(people, name="gallery")
plugins = typer.Typer(help="Build the CUDA kernel and the TensorRT plugin.", no_args_is_help=True)
app.add_typer(plugins, name="plugin")
app.add_typer(figure, name="figure")
app.add_typer(data, name="data")
app.add_typer(bench, name="bench")

SOURCES = "a video file, a folder of frames, a camera (0), rtsp://…, csi://0, gst:…, synthetic://6"
Source = Annotated[str, typer.Argument(help=f"where walkers are seen: {SOURCES}")]
GalleryPath = Annotated[
    Path | None,
    typer.Option(help="SQLite file of the gallery (default: in your data folder)"),
]
Model = Annotated[
    Path | None,
    typer.Option(help="exported folder or .safetensors (default: the model that is shipped)"),
]
Backend = Annotated[str, typer.Option(help="auto, onnxruntime, openvino, tensorrt or pytorch")]
Segmenter = Annotated[str, typer.Option(help="roi (person mask network) or plate (no weights)")]
Fpir = Annotated[float, typer.Option(help="how often a stranger may be given a name, 0..1")]
Threshold = Annotated[
    float | None,
    typer.Option(help="distance below which a name is given, in place of the one for --fpir"),
]
Silhouettes = Annotated[
    Side | None,
    typer.Option(help="SOURCE holds silhouettes or masks of one walk, which goes to this side"),
]
Json = Annotated[bool, typer.Option("--json", help="print results as JSON")]


def main() -> None:
    """Run the command line; every expected error is one line and its exit code."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(message)s")
    try:
        app()
    except CstlEdgeError as err:
        if debug:
            raise
        print(f"error: {err}", file=sys.stderr)
        sys.exit(err.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our pipe has gone; nobody is left to tell
        sys.exit(141)


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks and the log")] = False,
) -> None:
    """Recognise people by their walk. Begin with the verb demo."""
    if version:
        print(f"cstl-edge {__version__}")
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for what it writes")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="of the synthetic street")] = 0,
    json: Json = False,
) -> None:
    """Show the whole way: a real walker and a synthetic street, enrolled and recognised."""
    from cstl_edge.cli_show import print_demo
    from cstl_edge.demo import run_demo

    print_demo(run_demo(out, seed=seed), as_json=json)


@app.command()
def live(
    source: Source,
    gallery: GalleryPath = None,
    model: Model = None,
    backend: Backend = "auto",
    segmenter: Segmenter = "roi",
    fpir: Fpir = 0.01,
    threshold: Threshold = None,
    annotate: Annotated[
        Path | None,
        typer.Option(help="write an annotated video here"),
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(help="append events as JSON lines to this file"),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(help="stop after so many seconds"),
    ] = None,
    json: Json = False,
) -> None:
    """Follow walkers in a source and say who they are, as it happens; Ctrl-C ends it cleanly."""
    from cstl_edge.cli_verbs import follow

    options = _pipeline(segmenter, fpir, threshold)
    follow(source, gallery, _load(model, backend), options, annotate, events, duration, json)


@app.command()
def enroll(
    name: Annotated[str, typer.Argument(help="of the person")],
    source: Source,
    consent: Annotated[str, typer.Option(help="who agreed to what, when: kept with the person")],
    gallery: GalleryPath = None,
    model: Model = None,
    backend: Backend = "auto",
    segmenter: Segmenter = "roi",
    retention_days: Annotated[
        float | None,
        typer.Option(help="after so many days the person no longer matches and is purged"),
    ] = None,
    track: Annotated[
        int | None,
        typer.Option(help="which walker of the source (default: the only one with a usable walk)"),
    ] = None,
    silhouettes: Silhouettes = None,
    json: Json = False,
) -> None:
    """Add a person to the gallery from a walk in a video, at a camera, or in silhouettes."""
    from cstl_edge.cli_verbs import enrol_walk

    options, encoder = _pipeline(segmenter), _load(model, backend)
    enrol_walk(
        name, source, consent, gallery, encoder, options, retention_days, track, silhouettes, json
    )


@app.command()
def identify(
    source: Source,
    gallery: GalleryPath = None,
    model: Model = None,
    backend: Backend = "auto",
    segmenter: Segmenter = "roi",
    fpir: Fpir = 0.01,
    threshold: Threshold = None,
    silhouettes: Silhouettes = None,
    json: Json = False,
) -> None:
    """Say who walks in a recording: one line per walker, with distance, threshold and runner-up."""
    from cstl_edge.cli_verbs import identify_walks

    options, encoder = _pipeline(segmenter, fpir, threshold), _load(model, backend)
    identify_walks(source, gallery, encoder, options, silhouettes, json)


@people.command("list")
def list_people(gallery: GalleryPath = None, json: Json = False) -> None:
    """List everybody: name, templates, since when, until when, consent."""
    from cstl_edge.cli_verbs import list_gallery

    list_gallery(gallery, json)


@people.command("show")
def show_person(
    name: Annotated[str, typer.Argument()], gallery: GalleryPath = None, json: Json = False
) -> None:
    """Show what is kept of one person."""
    from cstl_edge.cli_verbs import show_in_gallery

    show_in_gallery(name, gallery, json)


@people.command("remove")
def remove_person(
    name: Annotated[str, typer.Argument()], gallery: GalleryPath = None, json: Json = False
) -> None:
    """Erase one person, without residue in the file."""
    from cstl_edge.cli_verbs import remove_from_gallery

    remove_from_gallery(name, gallery, json)


@app.command()
def export(
    weights: Annotated[Path, typer.Argument(help="a .safetensors checkpoint")],
    output: Annotated[Path, typer.Option("-o", "--output", help="folder to write")],
    graphs: Annotated[str, typer.Option(help="which graphs, by commas")] = "frames,head,full",
    simplify: Annotated[bool, typer.Option(help="simplify the graphs in a child process")] = True,
    precision: Annotated[
        str, typer.Option(help="by commas: fp16, int8; float32 is always written")
    ] = "float32",
    calibrate: Annotated[
        Path | None,
        typer.Option(help="silhouettes of a walk, or a folder of such folders (default: Walkers)"),
    ] = None,
    people: Annotated[int | None, typer.Option(help="Walkers to judge fp16 and int8 on")] = None,
    json: Json = False,
) -> None:
    """Turn trained weights into ONNX graphs and a manifest, compared with PyTorch."""
    from cstl_edge.cli_verbs import export_weights

    precisions = precision.split(",")
    export_weights(
        weights, output, tuple(graphs.split(",")), simplify, json, precisions, calibrate, people
    )


app.command()(build)
app.command("eval")(evaluate)
app.command()(import_released)
app.command()(reproduce)
app.command()(train)


@plugins.command("build")
def build_plugin(
    tensorrt_root: Annotated[
        Path | None,
        typer.Option(help="folder whose include/ has TensorRT's headers (default: the system's)"),
    ] = None,
    kernel_only: Annotated[
        bool, typer.Option("--kernel-only", help="without the plugin: needs no TensorRT")
    ] = False,
    architectures: Annotated[
        str, typer.Option(help="of GPUs, by commas, such as 87 (default: all that nvcc knows)")
    ] = "",
    json: Json = False,
) -> None:
    """Compile the part gather for NVIDIA GPUs with nvcc, test it, and keep it in your cache."""
    from cstl_edge import plugin
    from cstl_edge.cli_show import print_libraries, progress

    with progress("building the plugin") as tell:
        built = plugin.build(
            kernel_only=kernel_only,
            architectures=architectures.split(",") if architectures else (),
            tensorrt_root=tensorrt_root,
            tell=tell,
        )
    print_libraries(built, as_json=json)


@app.command()
def doctor(json: Json = False) -> None:
    """Tell what this machine has, what will be used, and how to get what is missing."""
    from cstl_edge.cli_show import print_doctor
    from cstl_edge.doctor import report

    print_doctor(report(), as_json=json)


def _load(model: Path | None, backend: str) -> Any:
    from cstl_edge.runtime import load

    return load(model, backend)


def _pipeline(segmenter: str, fpir: float = 0.01, threshold: float | None = None) -> Any:
    from cstl_edge.live.pipeline import Options

    return Options(segmenter=segmenter, fpir=fpir, threshold=threshold)


if __name__ == "__main__":
    main()
