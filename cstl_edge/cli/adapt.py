"""Verb `adapt`: train the last layer on walks of one's own people, where that helps."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cstl_edge.cli.console import needs_torch, print_result, progress
from cstl_edge.cli.options import Json, Overwrite, Workers
from cstl_edge.errors import ConfigError, GalleryError, one_line
from cstl_edge.output import Outputs

if TYPE_CHECKING:
    from cstl_edge.training.adapt import Adaptation, JointOf, OwnWalk


Folders = Annotated[
    list[Path] | None,
    typer.Option(help="Folder of people: PERSON/WALK/*.png or PERSON/WALK.npy (repeatable)."),
]
Joint = Annotated[
    Path | None,
    typer.Option(
        help="Joint projection to search with: a file of train/fit_joint.py or an exported folder "
        "(default: the shipped model's, for the shipped checkpoint)."
    ),
]


def adapt(
    silhouettes: Folders = None,
    gallery: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|ADDRESS",
            help="Gallery that must know these people; its kept silhouettes are used too.",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Checkpoint to write, where it helps.")
    ] = Path("adapted.safetensors"),
    first: Annotated[
        Path | None, typer.Option(help="Checkpoint to start from (default: the shipped one).")
    ] = None,
    joint: Joint = None,
    mirrored: Annotated[
        bool, typer.Option("--mirrored", help="The walks of --silhouettes go to the right.")
    ] = False,
    cache: Annotated[Path, typer.Option(help="Folder where Walkers are kept.")] = Path(
        "runs/cache"
    ),
    workers: Workers = 2,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Train the last layer on walks of your own people; refused where it does not help them.

    A third of each person's walks, one at least, is set aside and decides.
    """
    start = first or shipped_checkpoint()
    folders = silhouettes or []
    if not folders and gallery is None:
        raise ConfigError("expected walks of your people: give --silhouettes FOLDER or --gallery")
    outputs = Outputs([*folders, gallery, start, joint], overwrite=overwrite)
    outputs.claim(output, "-o", suffixes=(".safetensors",))
    with needs_torch("adapt"):
        from cstl_edge.training.adapt import adapt_to_walks, read_own_walks

        source = joint or _shipped_joint(start)

    def walks(size: tuple[int, int]) -> list[OwnWalk]:
        read = read_own_walks(folders, size, mirrored=mirrored)
        return read if gallery is None else read + _kept_in(gallery, read, size)

    with progress("adapting"):
        joint_of = _joint_in(source)
        result = adapt_to_walks(start, walks, output, cache=cache, workers=workers, joint=joint_of)
    lines = _summary(result, output, source)
    print_result({"weights": str(output), **result.to_dict()}, lines, json)


def _summary(result: Adaptation, output: Path, joint: Path | None) -> list[str]:
    """Return the figures before and after, and what to do next."""
    before, after, folder = result.own_before, result.own_after, output.with_suffix("")
    with_joint = "" if joint is None else f" --joint {shlex.quote(str(joint))}"
    return [
        f"{output}: on {result.held_out_windows} windows of {result.people} people that were set "
        f"aside, rank-1 {before.rank1:.1%} -> {after.rank1:.1%}, area under the curve "
        f"{before.auc:.3f} -> {after.auc:.3f}; on Walkers {result.walkers_before.auc:.3f} -> "
        f"{result.walkers_after.auc:.3f}",
        f"next: cstl-edge export {output}{with_joint} -o {folder}, and enroll your people "
        f"again with --model {folder}: templates belong to the weights that made them",
    ]


def _kept_in(gallery: str, walks: list[OwnWalk], size: tuple[int, int]) -> list[OwnWalk]:
    """Return the walks that a gallery kept; refuse others of people it does not know.

    Raises GalleryError for these, and for a gallery without silhouettes where nothing else is given
    """
    from cstl_edge.gallery.gallery import Gallery
    from cstl_edge.gallery.moving import shown_place
    from cstl_edge.training.adapt import kept_walks

    with Gallery.open(gallery, create=False) as open_gallery:
        known = {x.name.casefold() for x in open_gallery.people() if not x.expired}
        kept = kept_walks(open_gallery.kept_silhouettes(), size)
    if not kept and not walks:
        raise GalleryError(
            f"{shown_place(gallery)} keeps no silhouettes of {size[0]}x{size[1]}: enroll with "
            "--keep-silhouettes, where the consent covers it, or give --silhouettes FOLDER"
        )
    people = {walk.person for walk in walks}
    if strangers := sorted(name for name in people if name.casefold() not in known):
        raise GalleryError(
            f"{shown_place(gallery)} knows no {', '.join(map(one_line, strangers))}: enroll them"
            " with their consent first, name their folders as they are enrolled, or leave --gallery"
            " out"
        )
    return kept


def _joint_in(source: Path | None) -> JointOf | None:
    """Return the function that reads the joint projection of some weights from a file or folder."""
    if source is None:
        return None
    from cstl_edge.export.joint import joint_for

    return lambda *weights: joint_for(source, *weights).matrix


def _shipped_joint(weights: Path) -> Path | None:
    """Return the folder that comes with the package, where its joint projection is of weights."""
    from cstl_edge.checkpoint.weights import read_header
    from cstl_edge.runtime.manifest import read_manifest

    folder = shipped_checkpoint().with_suffix("")
    manifest = read_manifest(folder) if folder.is_dir() else None
    if manifest is None or manifest.matching is None or not manifest.matching.joint:
        return None
    digest = read_header(weights)[0].get("weights_sha256")
    return folder if digest == manifest.weights_sha256 else None


def shipped_checkpoint() -> Path:
    """Return the checkpoint that comes with the package (ConfigError without it)."""
    path = Path(__file__).parents[1] / "assets" / "cstl-walkers.safetensors"
    if not path.is_file():
        raise ConfigError("no checkpoint comes with this copy of cstl_edge: give one by --first")
    return path
