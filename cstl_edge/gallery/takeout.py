"""Everything that a gallery keeps about one person, as a zip of JSON and pictures."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from cstl_edge.arrays import Silhouettes
from cstl_edge.gallery.loading import stored_vectors
from cstl_edge.gallery.pictures import as_png, read_silhouettes
from cstl_edge.gallery.store import GalleryStore
from cstl_edge.output import PRIVATE, whole_file

README = """Everything that the gallery keeps about {name}.

person.json       name, consent notes, retention, and where each walk was seen
templates/N.json  numbers [parts][dimensions] by which walk N's windows are compared; they belong
                  to the model whose SHA-256 person.json gives
pictures/N/       silhouettes of walk N, where they were kept
"""


def export_person(store: GalleryStore, name: str, path: Path) -> int:
    """Write a person's zip, mode 600; returns how many files it holds.

    Args:
        store: Open gallery.
        name: Of the person, in any case.
        path: File to write.

    Raises:
        GalleryError: Nobody has this name, or a row is damaged.
        StorageError: The disk refuses; there is no file then.
    """
    rows = store.rows
    with rows.transaction():
        person = store.existing(name)
        walks = [(person, walk) for walk in person.enrolments]
        of_walk = [number for number, walk in enumerate(person.enrolments, 1)
                   for _ in walk.record.templates]  # fmt: skip
        templates: dict[int, list[object]] = {}
        for position, vector in stored_vectors(rows, walks):
            record = person.enrolments[of_walk[position] - 1].record
            window = np.frombuffer(vector, "<f2").reshape(record.parts, record.dimensions)
            templates.setdefault(of_walk[position], []).append(window.astype(float).tolist())
        pictures = {
            number: [frame for kept in read_silhouettes(rows, walk) for frame in kept]
            for number, walk in enumerate(person.enrolments, 1)
        }
    of_person = asdict(person.record)
    del of_person["enrolments"]
    of_walks = [
        {key: value for key, value in asdict(walk.record).items() if key != "silhouettes"}
        | {"walk": number, "templates": len(walk.record.templates)}
        for number, walk in enumerate(person.enrolments, 1)
    ]
    with whole_file(path, mode=PRIVATE) as file, zipfile.ZipFile(file, "w", _COMPRESSION) as pack:
        pack.writestr("README.txt", README.format(name=person.record.name))
        pack.writestr("person.json", _json({**of_person, "walks": of_walks}))
        for number, windows in sorted(templates.items()):
            pack.writestr(f"templates/{number}.json", _json(windows))
        for number, images in pictures.items():
            for frame, image in enumerate(images):
                pack.writestr(f"pictures/{number}/{frame:04d}.png", as_png(image))
        return len(pack.namelist())


def kept_silhouettes(store: GalleryStore) -> dict[str, list[Silhouettes]]:
    """Return the silhouettes kept with the walks of those whose retention has not ended, by name.

    Raises GalleryError where a row is damaged or missing.
    """
    names = [person.name for person in store.people() if not person.expired]
    kept: dict[str, list[Silhouettes]] = {}
    with store.rows.transaction():
        for name in names:
            walks = store.existing(name).enrolments
            silhouettes = [x for walk in walks for x in read_silhouettes(store.rows, walk)]
            if silhouettes:
                kept[name] = silhouettes
    return kept


_COMPRESSION = zipfile.ZIP_DEFLATED


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)
