"""Give a gallery a new key, its first key, or none: every row is sealed anew in one transaction.

A process that is killed at any moment leaves the gallery under the old key or under the new one.
"""

from __future__ import annotations

from collections.abc import Iterator

from cstl_edge.gallery.camera_means import camera_digest, unpack
from cstl_edge.gallery.keys import GalleryKey, new_key
from cstl_edge.gallery.looks import look_key
from cstl_edge.gallery.people import name_key
from cstl_edge.gallery.records import PersonRecord, from_bytes
from cstl_edge.gallery.sealed_rows import SealedRows
from cstl_edge.gallery.sealing import Content, place
from cstl_edge.gallery.stored_people import read_people

_UNOWNED = ("clusters", "camera_means", "camera_scatters", "tombstones")


def rekey(rows: SealedRows, key: GalleryKey | None) -> None:
    """Seal every row under a new key; `erasure.finish` then removes what the old rows leave.

    Args:
        rows: Open file.
        key: Where the new secret comes from; None: no encryption any more.

    Raises:
        GalleryError: A row is damaged, or the disk is full; nothing is changed.
        ConfigError: There is no secret.
    """
    secret = key.new_secret("new passphrase of the gallery") if key is not None else b""
    with rows.change() as head:
        places, old = [*_places(rows)], rows.seal
        rows.set_key(None if key is None else new_key(), secret)
        new = rows.seal
        for table, row, where in places:
            (body,) = rows.one(f"SELECT body FROM {table} WHERE id = ?", row)
            rows.seal = old
            content = rows.content(body, where, f"row {row} of {table}")
            rows.seal = new
            rows.update(table, row, bytes(content), where)
            _set_digests(rows, table, row, content)
        head.unfinished = True
    if key is not None:
        rows.key = key


def _places(rows: SealedRows) -> Iterator[tuple[str, int, bytes]]:
    """Yield table, id and place of every row but the head, which `Rows.change` writes."""
    for person in read_people(rows, rows.head()):
        yield "people", person.id, place("people", person.id)
        for walk in person.enrolments:
            yield "enrolments", walk.id, walk.place
            for template in walk.record.templates:
                yield "templates", template, walk.place_of("templates", template)
            for picture in walk.record.silhouettes:
                yield "silhouettes", picture, walk.place_of("silhouettes", picture)
    for table in _UNOWNED:
        for (row,) in rows.all(f"SELECT id FROM {table}"):
            yield table, row, place(table, row)


def _set_digests(rows: SealedRows, table: str, row: int, content: Content) -> None:
    """Write the digests by which a row is found under the new key."""
    digest = rows.seal.digest
    if table == "people":
        name = from_bytes(PersonRecord, content).name
        rows.database.execute(
            "UPDATE people SET name_digest = ?, look_digest = ? WHERE id = ?",
            (digest(name_key(name)), digest(look_key(name)), row),
        )
    elif table == "camera_means":
        fields, _ = unpack(content)
        rows.database.execute(
            "UPDATE camera_means SET camera_digest = ? WHERE id = ?",
            (camera_digest(rows.seal, fields["camera"], fields["weights_sha256"]), row),
        )
