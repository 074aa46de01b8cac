"""Verbs of `gallery`: what is kept about whom, its copies, its encryption, and its end."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cstl_edge.cli.console import described, print_result, progress
from cstl_edge.cli.options import GalleryPath, Json, Overwrite
from cstl_edge.cli.remote import Server, list_remote
from cstl_edge.errors import ConfigError, GalleryError, one_line
from cstl_edge.output import user_folder

if TYPE_CHECKING:  # every help text would wait for what these import
    from cstl_edge.gallery.gallery import Gallery
    from cstl_edge.gallery.keys import GalleryKey
    from cstl_edge.runtime.base import Encoder

NEW_PASSPHRASE = "CSTL_EDGE_GALLERY_NEW_PASSPHRASE"

Person = Annotated[str, typer.Argument(help="The name under which the person is enrolled.")]
people = typer.Typer(
    help="List, show, rename or remove the people of a gallery; back it up, encrypt it.",
    no_args_is_help=True,
)


@people.command("list")
def list_people(
    context: typer.Context,
    gallery: GalleryPath = None,
    server: Server = None,
    json: Json = False,
) -> None:
    """List everybody: name, templates, since when, until when, consent."""
    if server is not None:
        list_remote(context, server, json=json)
        return
    with open_existing(gallery) as open_gallery:
        rows = [asdict(person) for person in open_gallery.people()]
    lines = [
        f"{one_line(row['name'])}: {row['templates']} templates, since {row['created_utc']}, "
        f"until {row['expires_utc'] or 'removed'}; consent: {one_line(row['consent'])}"
        for row in rows
    ]
    print_result(rows, lines or "nobody is enrolled", json)


@people.command("show")
def show(
    name: Annotated[
        str | None, typer.Argument(help="A person (default: the gallery as a whole).")
    ] = None,
    gallery: GalleryPath = None,
    json: Json = False,
) -> None:
    """Show what is kept of one person, or the gallery: its cameras, its backups, its key."""
    with open_existing(gallery) as open_gallery:
        row = _overview(open_gallery) if name is None else asdict(open_gallery.show(name))
    print_result(row, described(row), json)


@people.command("remove")
def remove_person(name: Person, gallery: GalleryPath = None, json: Json = False) -> None:
    """Erase one person, without residue in the file, its log and its backups."""
    with open_existing(gallery) as open_gallery:
        erased = open_gallery.remove(name)
        unfinished = open_gallery.unfinished
    text = f"erased {one_line(name)}: {erased} templates"
    result = {"name": name, "erased": erased, "unfinished": list(unfinished)}
    print_result(result, text + (" (not finished, see above)" if unfinished else ""), json)


@people.command()
def rename(
    name: Person,
    new_name: Annotated[str, typer.Argument(help="The name from now on.")],
    gallery: GalleryPath = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take a name that looks like another person's.")
    ] = False,
    json: Json = False,
) -> None:
    """Give a person another name."""
    with open_existing(gallery) as open_gallery:
        stored = open_gallery.rename(name, new_name, force=force)
    print_result(
        {"name": name, "new_name": stored}, f"{one_line(name)} is {one_line(stored)}", json
    )


@people.command()
def merge(
    name: Annotated[str, typer.Argument(help="The person who stays.")],
    other: Annotated[str, typer.Argument(help="The person whose walks NAME gets.")],
    gallery: GalleryPath = None,
    json: Json = False,
) -> None:
    """Make two people one, who were enrolled under two names."""
    with open_existing(gallery) as open_gallery:
        moved = open_gallery.merge(name, other)
        templates = open_gallery.show(name).templates
    text = f"{one_line(name)} has {moved} templates of {one_line(other)}, {templates} in all"
    print_result({"name": name, "moved": moved, "templates": templates}, text, json)


@people.command()
def purge(
    gallery: GalleryPath = None,
    now: Annotated[
        bool, typer.Option("--now", help="The clock is right: do not wait for a second look.")
    ] = False,
    json: Json = False,
) -> None:
    """Erase people whose retention has ended, and finish earlier erasures."""
    with open_existing(gallery) as open_gallery:
        names = [*open_gallery.take_purged(), *open_gallery.purge(trust_clock=now)]
        waiting = [person.name for person in open_gallery.people() if person.expired]
        unfinished = open_gallery.unfinished
    lines = [f"erased {one_line(name)}" for name in names] or ["nobody's retention has ended"]
    if waiting:
        lines = [*lines] if names else []
        lines.append(
            f"{len(waiting)} more have expired and no longer match; since the clock went ahead by"
            " more than a day, a second look in 24 hours erases them (--now: at once)"
        )
    result = {"erased": names, "waiting": waiting, "unfinished": list(unfinished)}
    print_result(result, lines, json)


@people.command("export")
def export_person(
    name: Person,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .zip to write.")],
    gallery: GalleryPath = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write all that is kept about a person to a zip of JSON, with pictures if there are any."""
    path = _claimed(out, gallery, "--out", overwrite, suffixes=(".zip",))
    with open_existing(gallery) as open_gallery:
        files = open_gallery.export(name, path)
    text = f"wrote {files} files about {one_line(name)} to {one_line(path)}"
    print_result({"name": name, "files": files, "path": str(path)}, text, json)


@people.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    gallery: GalleryPath = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Copy the whole gallery while others use it; later erasures reach the copy."""
    path = _claimed(file, gallery, "FILE", overwrite)
    with open_existing(gallery) as open_gallery:
        open_gallery.backup(path)
        count = len(open_gallery.people())
    print_result({"path": str(path), "people": count}, f"{count} people in {one_line(path)}", json)


@people.command("forget-backup")
def forget_backup(
    file: Annotated[Path, typer.Argument(help="A backup that was deleted.")],
    gallery: GalleryPath = None,
    json: Json = False,
) -> None:
    """Take a backup that is gone off the list of those that erasures must reach."""
    with open_existing(gallery) as open_gallery:
        open_gallery.forget_backup(file)
        left = open_gallery.backups()
    print_result({"backups": list(left)}, f"{len(left)} backups are known", json)


@people.command()
def restore(
    file: Annotated[Path, typer.Argument(help="The backup.")],
    gallery: GalleryPath = None,
    force: Annotated[
        bool, typer.Option("--force", help="Lose people who are not in the backup.")
    ] = False,
    json: Json = False,
) -> None:
    """Put a backup in the gallery's place; whoever was erased since stays erased."""
    from cstl_edge.gallery.backups import restore as restore_backup
    from cstl_edge.gallery.moving import refuse_server
    from cstl_edge.gallery.people import utc_now, utc_timestamp

    refuse_server(gallery or "", "restore into a file, then bring it there (gallery migrate)")
    target = Path(gallery or default_gallery())
    now = utc_timestamp(utc_now())
    result = restore_backup(file, target, gallery_key(), now, force=force)
    lines = [f"restored {result.people} people to {one_line(target)}"]
    if result.left_out:
        lines.append(f"left out {result.left_out} who were erased since")
    if result.moved:
        lines.append(f"the damaged gallery is now {one_line(result.moved)}")
    moved = None if result.moved is None else str(result.moved)
    print_result({**asdict(result), "moved": moved}, lines, json)


@people.command()
def rekey(
    gallery: GalleryPath = None,
    new_key_file: Annotated[
        Path | None, typer.Option(help="The new key is opened by this file, made if missing.")
    ] = None,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Encrypt a gallery that is not encrypted.")
    ] = False,
    decrypt: Annotated[
        bool, typer.Option("--decrypt", help="Store everything without encryption.")
    ] = False,
    json: Json = False,
) -> None:
    """Encrypt everything anew under a new key, for the first time, or not any more.

    The passphrase of the new key comes from CSTL_EDGE_GALLERY_NEW_PASSPHRASE; without it and
    without --new-key-file, what opens the gallery now opens it then.
    """
    from cstl_edge.gallery.keys import GalleryKey

    key: GalleryKey | None = gallery_key(confirm=encrypt)
    if new_key_file is not None:
        key = GalleryKey(file=new_key_file)
    elif passphrase := os.environ.get(NEW_PASSPHRASE):
        key = GalleryKey(passphrase=passphrase)
    with open_existing(gallery) as open_gallery:
        if open_gallery.encrypted == encrypt or (encrypt and decrypt):
            state = "encrypted already" if open_gallery.encrypted else "not encrypted"
            raise ConfigError(
                f"gallery '{one_line(open_gallery.path)}' is {state}: expected --encrypt for one"
                " that is not encrypted, --decrypt or neither for one that is"
            )
        open_gallery.rekey(None if decrypt else key)
        backups = open_gallery.backups()
    lines = ["the gallery is not encrypted any more" if decrypt else "the gallery has a new key"]
    if backups:
        lines.append(
            f"{len(backups)} backups are as they were: make new ones and delete them"
            " (gallery backup, gallery forget-backup)"
        )
    print_result({"encrypted": not decrypt, "old_backups": list(backups)}, lines, json)


@people.command()
def migrate(
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="File or postgresql:// address of the gallery.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="File or address where there is no gallery yet.")
    ],
    json: Json = False,
) -> None:
    """Copy a gallery to a server, or from one to a file; goes on where it was interrupted."""
    from cstl_edge.gallery.moving import move, shown_place

    with progress("people") as bar:
        count = move(source, target, gallery_key(), bar.count)
    where = shown_place(target)
    lines = [
        f"{count} people are in {where}",
        f"{shown_place(source)} and its backups are as they were: later erasures do not reach"
        " them; delete them when every box uses the new place",
    ]
    print_result({"people": count, "gallery": where}, lines, json)


@people.command()
def verify(
    gallery: GalleryPath = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Delete people and sums with damaged records.")
    ] = False,
    json: Json = False,
) -> None:
    """Compare everything in the file with its checksums."""
    with open_existing(gallery) as open_gallery:
        faults = open_gallery.verify()
        repaired = open_gallery.repair() if repair and faults else []
        left = open_gallery.verify() if repaired else faults
    if left:
        raise GalleryError("; ".join(left))
    lines = repaired or ["nothing is damaged"]
    print_result({"faults": faults, "repaired": repaired}, lines, json)


def default_gallery() -> Path:
    """Return the gallery's default place: in XDG_DATA_HOME, else in ~/.local/share."""
    return user_folder("data") / "gallery.db"


def gallery_key(*, confirm: bool = False) -> GalleryKey:
    """Return where the secret of an encrypted gallery comes from: the environment, or a question.

    confirm: whether a passphrase is asked for twice, since it is a new one
    """
    from cstl_edge.gallery.keys import GalleryKey

    def ask(question: str) -> str:
        return str(typer.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True))

    return GalleryKey(ask=ask if sys.stdin is not None and sys.stdin.isatty() else None)


def open_existing(gallery: str | None, encoder: Encoder | None = None) -> Gallery:
    """Open a gallery that exists, for a model where one is given (GalleryError)."""
    from cstl_edge.gallery.gallery import Gallery

    path = gallery or default_gallery()
    return Gallery.open(path, model=encoder, create=False, key=gallery_key())


def _overview(gallery: Gallery) -> dict[str, Any]:
    """Return what is kept besides the people."""
    means = [
        {
            "camera": mean.camera,
            "model": mean.weights_sha256[:12],
            "walks": mean.walks,
            "people": mean.people,
            "updated_utc": mean.updated_utc,
        }
        for mean in gallery.camera_means.all()
    ]
    return {
        "path": str(gallery.path),
        "server": gallery.server,
        "online": gallery.online,
        "encrypted": gallery.encrypted,
        "people": len(gallery.people()),
        "templates": gallery.templates,
        "camera_means": means,
        "backups": list(gallery.backups()),
        "unfinished": list(gallery.unfinished),
    }


def _claimed(
    path: Path,
    gallery: str | None,
    option: str,
    overwrite: bool,
    suffixes: tuple[str, ...] = (),
) -> Path:
    from cstl_edge.output import Outputs

    outputs = Outputs([gallery or default_gallery()], overwrite=overwrite)
    return outputs.claim(path, option, suffixes=suffixes)
