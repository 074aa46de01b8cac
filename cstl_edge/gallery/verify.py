"""Compare everything in a gallery with its checksums: what `gallery verify` does."""

from __future__ import annotations

from cstl_edge.errors import GalleryError
from cstl_edge.gallery.camera_means import CameraMeans
from cstl_edge.gallery.loading import stored_vectors
from cstl_edge.gallery.pictures import read_silhouettes
from cstl_edge.gallery.store import GalleryStore
from cstl_edge.gallery.stored_people import read_people, tombstones


def verify(store: GalleryStore, means: CameraMeans) -> list[str]:
    """Return what is damaged, in sentences; nothing when all is whole."""
    faults = []
    for check in (_pages, _people, lambda _: _cameras(means)):
        try:
            check(store)
        except GalleryError as err:
            faults.append(str(err))
    return faults


def _pages(store: GalleryStore) -> None:
    store.rows.check_pages()


def _people(store: GalleryStore) -> None:
    """Raise GalleryError for the first row about people that is damaged or missing."""
    rows = store.rows
    with rows.transaction():
        head = rows.head()
        tombstones(rows, head)
        people = read_people(rows, head)
        walks = [(person, walk) for person in people for walk in person.enrolments]
        for _ in stored_vectors(rows, walks):
            pass
        for _, walk in walks:
            read_silhouettes(rows, walk)


def _cameras(means: CameraMeans) -> None:
    for mean in means.all():
        means.load_scatter(mean.camera, mean.weights_sha256)
