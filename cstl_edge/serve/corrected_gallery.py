"""The gallery as recognition searches it: with the walks that users said are not somebody's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.match import Decision, RuledOut, SeenWalk


class CorrectedGallery:
    """Searches of a gallery that honour corrections; a `SearchedGallery`."""

    def __init__(self, gallery: Gallery, ruled_out: Callable[[], Sequence[RuledOut]]) -> None:
        """Wrap a gallery.

        Args:
            gallery: Stays its owner's to close.
            ruled_out: Returns the walks that are not of the person they were taken for.
        """
        self._gallery, self._ruled_out = gallery, ruled_out

    def identify(
        self,
        walk: SeenWalk,
        fpir: float = 0.01,
        threshold: float | None = None,
        *,
        camera: str | None = None,
        learn: bool = True,
    ) -> Decision:
        """Decide who a walk belongs to; as `Gallery.identify`.

        Args:
            walk: Everything seen of it.
            fpir: How often a stranger may be given a name.
            threshold: Distance in place of the one for `fpir`.
            camera: Name of the camera that saw it.
            learn: Whether it counts in the sums of that camera.
        """
        return self._gallery.identify(
            walk, fpir, threshold, camera=camera, learn=learn, ruled_out=self._ruled_out()
        )

    def learn(self, walk: SeenWalk, camera: str, decision: Decision | None = None) -> None:
        """Count a walk in the sums of its camera.

        Args:
            walk: Everything seen of it.
            camera: Name of the camera.
            decision: The answer about it.
        """
        self._gallery.learn(walk, camera, decision)

    def take_purged(self) -> tuple[str, ...]:
        """Return nobody: the service takes care of ended retentions itself."""
        return ()
