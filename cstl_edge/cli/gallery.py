"""Verbs of `gallery`: what is kept about whom, and its end."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cstl_edge.cli.console import print_result
from cstl_edge.cli.options import GalleryPath, Json
from cstl_edge.errors import one_line

if TYPE_CHECKING:  # every help text would wait for what these import
    from cstl_edge.gallery.gallery import Gallery
    from cstl_edge.runtime.base import Encoder

Person = Annotated[str, typer.Argument(help="The name under which the person is enrolled.")]
people = typer.Typer(help="List, show or remove the people of a gallery.", no_args_is_help=True)


@people.command("list")
def list_people(gallery: GalleryPath = None, json: Json = False) -> None:
    """List everybody: name, templates, since when, until when, consent."""
    with open_existing(gallery) as open_gallery:
        rows = [asdict(person) for person in open_gallery.people()]
    lines = [
        f"{one_line(row['name'])}: {row['templates']} templates, since {row['created_utc']}, "
        f"until {row['expires_utc'] or 'removed'}; consent: {one_line(row['consent'])}"
        for row in rows
    ]
    print_result(rows, lines or "nobody is enrolled", json)


@people.command("show")
def show_person(name: Person, gallery: GalleryPath = None, json: Json = False) -> None:
    """Show what is kept of one person."""
    with open_existing(gallery) as open_gallery:
        row = asdict(open_gallery.show(name))
    print_result(row, [f"{key}: {one_line(value, 500)}" for key, value in row.items()], json)


@people.command("remove")
def remove_person(name: Person, gallery: GalleryPath = None, json: Json = False) -> None:
    """Erase one person, without residue in the file."""
    with open_existing(gallery) as open_gallery:
        erased = open_gallery.remove(name)
    text = f"erased {one_line(name)}: {erased} templates"
    print_result({"name": name, "erased": erased}, text, json)


def default_gallery() -> Path:
    """Return the gallery's default place: in XDG_DATA_HOME, else in ~/.local/share."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "cstl-edge" / "gallery.db"


def open_existing(gallery: Path | None, encoder: Encoder | None = None) -> Gallery:
    """Open a gallery that exists, for a model where one is given (GalleryError)."""
    from cstl_edge.gallery.gallery import Gallery

    return Gallery.open(gallery or default_gallery(), model=encoder, create=False)
