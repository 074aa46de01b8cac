"""Verb `train`: train CSTL on a prepared dataset, or on Walkers made for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cstl_edge.cli.console import command_line, log_without_bar, needs_torch, print_result
from cstl_edge.cli.options import Json, Override, Workers

Data = Annotated[
    Path | None,
    typer.Option(
        help="Prepared dataset, or a folder of shards (default: synthetic Walkers, made now)."
    ),
]


def train(
    config: Annotated[str, typer.Argument(help="YAML file, or a preset such as cstl-casia-b.")],
    override: Override = None,
    data: Data = None,
    split: Annotated[
        str | None, typer.Option(help="Whom to train on: auto, field, first-5153 (OU-MVLP) or all.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the run (default: runs/train/CONFIG).")
    ] = None,
    first: Annotated[
        Path | None, typer.Option(help="Checkpoint of the same network to start from.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of the folder.")
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Train for so many minutes, instead of a number of iterations."),
    ] = None,
    cache: Annotated[Path, typer.Option(help="Folder where Walkers are kept.")] = Path(
        "runs/cache"
    ),
    workers: Workers = 2,
    json: Json = False,
) -> None:
    """Train a network on silhouettes; Ctrl-C ends it with a checkpoint."""
    with needs_torch("train"):
        from cstl_edge.training.command import run_training

    log_without_bar()
    weights, stopped, reports = run_training(
        config,
        _overrides(override or [], split, minutes),
        data=data,
        folder=folder,
        initial_weights=first,
        resume=resume,
        cache=cache,
        workers=workers,
        command=command_line(),
    )
    if reports:
        print_result({"weights": str(weights), "stopped": stopped}, str(weights), json)
    if stopped:
        raise typer.Exit(130)


def _overrides(override: list[str], split: str | None, minutes: float | None) -> list[str]:
    """Return all overrides of a configuration, those of options of their own included."""
    texts = list(override)
    if split is not None:
        texts.append(f"data.split={split}")
    if minutes is not None:
        texts += [f"run.minutes={minutes}", "run.iterations=null"]
    return texts
