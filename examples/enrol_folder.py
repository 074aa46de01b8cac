"""Enroll everybody of a folder that holds one video per person, named after the person.

python examples/enrol_folder.py videos/ --consent "signed forms of 2026-11-22, folder 7"
"""

from pathlib import Path
from typing import Annotated

import typer

import cstl_edge as ce
from cstl_edge.errors import CstlEdgeError


def main(
    folder: Path,
    consent: Annotated[str, typer.Option(help="who agreed to what, when")],
    gallery: Path = Path("people.db"),
) -> None:
    """Enroll the longest walk of each video in FOLDER; report what could not be used."""
    model = ce.load()
    with ce.Gallery.open(gallery, model=model) as people:
        for video in sorted(folder.glob("*.mp4")):
            try:
                walk = ce.read_walks(str(video), model=model)[0]
                stored = people.enroll(video.stem, walk.embeddings, consent=consent)
                print(f"{video.stem}: {stored} templates from {walk.frames} frames")
            except CstlEdgeError as err:
                print(f"{video.name} left out: {err}")


if __name__ == "__main__":
    typer.run(main)
