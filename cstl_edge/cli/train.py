"""Verb `train`: train CSTL on a prepared dataset, or on Walkers made for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cstl_edge.cli.console import command_line, log_without_bar, needs_torch, print_result
from cstl_edge.cli.options import Override, Workers


def train(
    config: Annotated[str, typer.Argument(help="a YAML file, or a preset such as cstl-casia-b")],
    override: Override = None,
    data: Annotated[
        Path | None,
        typer.Option(help="a prepared dataset, or a folder of shards (default: Walkers, made)"),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="training people: auto, field, first-5153 (OU-MVLP), all")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="of the run (default: runs/train/CONFIG)")
    ] = None,
    first: Annotated[
        Path | None, typer.Option(help="checkpoint of the same network to start from")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on from the last checkpoint")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(help="train so long instead of by iterations")
    ] = None,
    cache: Annotated[Path, typer.Option(help="folder where Walkers are kept")] = Path("runs/cache"),
    workers: Workers = 2,
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Train a network; Ctrl-C ends it with a checkpoint. Several GPUs: by torchrun.

    torchrun --nproc-per-node 4 -m cstl_edge.cli train CONFIG …
    """
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
