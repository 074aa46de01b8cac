"""Matching of walks in a gallery: the model's distance, the cameras' means, threshold, decision.

What all people of one camera share (its view, its segmenter) is removed before embeddings are
compared: a template is centred by the mean of the camera that enrolled it, a walk by that of the
camera that sees it. A camera's people are those enrolled from it, each once, and those who walked
by (`camera_means`). Their mean is blended with that of all cameras, and that with the model's
synthetic one, as if each prior were two people more. Walks whose camera has no name count as one
camera, unless those who are enrolled and those who walk by are further apart than chance has it:
then each side has a mean of its own. Letters: p parts, d embedding dimensions, n templates.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cstl_edge.arrays import Doubles, Floats
from cstl_edge.distance import EUCLIDEAN, Distance, blended_mean
from cstl_edge.gallery.camera_means import CameraMean, CameraMeans, CameraScatter
from cstl_edge.gallery.confidence import ConfidenceCurve
from cstl_edge.gallery.crowds import LEAST_APART, Crowd, crowds, means_of_people, spread
from cstl_edge.gallery.fast_index import fast_indexed
from cstl_edge.gallery.index import CosineIndex, TemplateIndex
from cstl_edge.gallery.large_index import LargeIndex
from cstl_edge.gallery.loading import Snapshot
from cstl_edge.gallery.look_alikes import LookAlike, look_alikes
from cstl_edge.gallery.match import Decision, RuledOut, SeenWalk, decide, walk_distances, walk_query
from cstl_edge.gallery.templates import InfoLike
from cstl_edge.gallery.thresholds import ImpostorTable, Threshold, choose_threshold

NEAREST = 2  # people: an answer and its runner-up
UNNAMED = "unnamed"  # the camera of walks whose camera has no name
FADE = 1 - 1 / 200  # weight of all earlier walks at each further one
REREAD_S = 10.0  # after which sums that another process may have changed are read again
MAX_WALKS = 4096  # remembered, so that none counts twice
APART = 2.0  # times the squared distance that chance puts between the means of two crowds
DOUBT = 0.1  # of the threshold, by which a walk that was ruled out counts as nearer
LEAST_DEGREES = 32.0  # windows less tracks, below which the camera's own scatter is not used


@dataclass(frozen=True)
class Prepared:
    """Templates and means for one search."""

    index: TemplateIndex
    centre: Floats | None  # [p, d], the mean of the camera that saw the walk
    ruled_out: Sequence[tuple[str, Floats]] = ()  # names, and walks [1, p, d] that are not theirs

    def distances(self, walk: SeenWalk) -> Floats:
        """Return the distance of a walk to every person of the index, [people]."""
        return walk_distances(self.index, walk, self.centre)

    def nearest(self, walk: SeenWalk) -> Floats:
        """Return the distance to everybody who decides about a walk, [people]; others: infinity."""
        count = NEAREST + len({name for name, _ in self.ruled_out})
        return self.index.nearest(walk_query(self.index, walk, self.centre), count)

    def walks_like(self, template: Floats) -> list[tuple[str, Floats]]:
        """Return names and templates [k, p, d] of the walks of a large gallery most like one.

        template: [p, d]
        """
        assert isinstance(self.index, LargeIndex)
        return self.index.walks_like(self.index.distance.project(template[None], self.centre))

    def struck(self, walk: SeenWalk, distances: Floats, threshold: float | None) -> frozenset[str]:
        """Return the people who a walk is not: it is more like one that was said not to be theirs.

        Args:
            walk: Everything seen of it.
            distances: Its distance to every person of the index, [people].
            threshold: Distance below which a name is given, if any: a share of it is for the
                correction, where the two are about equally near.
        """
        if not self.ruled_out:
            return frozenset()
        doubt = DOUBT * (threshold or 0.0)
        measure = self.index.distance
        ours = measure.project(walk.mean[None], self.centre)
        to_person = dict(zip(self.index.names, distances.tolist(), strict=True))
        return frozenset(
            name
            for name, theirs in self.ruled_out
            if name in to_person
            and float(measure.between(ours, theirs)[0, 0]) <= to_person[name] + doubt
        )


class Matcher:
    """Searches of one gallery under one model. Not thread-safe: the gallery holds a lock."""

    def __init__(self, info: InfoLike | None) -> None:
        """Read the model's statistics; raises ModelError where they are damaged.

        info: facts about the model; None: not known, embeddings are compared by `euclidean`
        """
        # encoders of other people's, written for an earlier version, have no distance
        self.distance: Distance = getattr(info, "distance", EUCLIDEAN)
        confidence = getattr(info, "confidence", None)
        self._table = ImpostorTable(info.impostors) if info and info.impostors else None
        self._curve = ConfidenceCurve(confidence) if confidence else None
        self._sha256 = info.weights_sha256 if info else None
        self._snapshot: Snapshot | None = None
        self._index: TemplateIndex | None = None
        self._enrolled: Mapping[str, Crowd] = {}
        self._seen: Mapping[str, Crowd] = {}
        self._passing: Crowd | None = None  # who walked by without a camera's name, in this process
        self._spread = 0.0  # mean squared distance of those enrolled without a name from their mean
        self._centres: dict[tuple[str, bool], Floats | None] = {}
        self._read_s = -np.inf
        self._scatter: Doubles = np.zeros(())  # [p, d, d], of all cameras
        self._degrees = self._adapted_by = 0.0  # of the scatter; when the whitening was adapted
        self.is_stale = False
        """Whether templates must be read again: twice as many windows as before say how far
        those of one walk are apart, and the whitening follows them."""
        self._counted: set[tuple[str, str]] = set()  # cameras and people who were counted there
        self._walks: dict[bytes, None] = {}  # that `learn` was given, the newest

    def prepare(
        self,
        snapshot: Snapshot,
        means: CameraMeans,
        camera: str | None,
        ruled_out: Sequence[RuledOut] = (),
    ) -> Prepared:
        """Return what a search of a walk of this camera takes; the snapshot's templates are taken.

        Args:
            snapshot: Everybody who is enrolled, at least one person.
            means: Sums of the gallery's cameras.
            camera: Name of the camera that saw the walk.
            ruled_out: Walks that are not of the person they were taken for.
        """
        index = self._prepared(snapshot, means)
        others = [
            (walk.name, index.distance.project(walk.embedding[None], self._centre_of(walk.camera)))
            for walk in ruled_out
        ]
        return Prepared(index, self._centre_of(camera), others)

    def look_alikes(self, snapshot: Snapshot, means: CameraMeans, fpir: float) -> list[LookAlike]:
        """Return the pairs of people of whom one would be taken for the other.

        Args:
            snapshot: Everybody who is enrolled, at least two people.
            means: Sums of the gallery's cameras.
            fpir: False-positive identification rate of the threshold.
        """
        index = self._prepared(snapshot, means)
        limit = choose_threshold(index, self._table, fpir).value
        return [] if limit is None else look_alikes(index, limit)

    def project(self, means: CameraMeans, embeddings: Floats, camera: str | None) -> Floats:
        """Return embeddings [n, p, d] of walks in the form in which two walks are compared.

        Args:
            means: Sums of the gallery's cameras.
            embeddings: As the model gave them.
            camera: Name of the camera that saw them.
        """
        if time.monotonic() - self._read_s >= REREAD_S:
            self._read(means)
        return self.distance.project(embeddings, self._centre_of(camera))

    def _centre_of(self, camera: str | None) -> Floats | None:
        return self._centre(camera or UNNAMED, passing=True)

    def decide(
        self, prepared: Prepared, walk: SeenWalk, fpir: float, threshold: float | None
    ) -> Decision:
        """Decide who a walk belongs to; may be called without the lock.

        Args:
            prepared: What `prepare` returned.
            walk: What was seen.
            fpir: Requested false-positive identification rate, 0..1.
            threshold: Distance in place of the one for `fpir`.
        """
        distances = prepared.nearest(walk)
        used = Threshold(threshold, "given")
        if threshold is None:
            used = choose_threshold(prepared.index, self._table, fpir, walk.seen)
        if self._sha256 is None:
            used = used._replace(note="no model was given: compared by the euclidean distance")
        return decide(
            prepared.index,
            distances,
            used,
            fpir,
            seen=walk.seen,
            curve=self._curve,
            ruled_out=prepared.struck(walk, distances, used.value),
        )

    def learn(
        self, means: CameraMeans, walk: SeenWalk, camera: str, decision: Decision | None
    ) -> None:
        """Count a walk once in the sums of its camera.

        Somebody who is named counts once while this process runs, and not where they were enrolled:
        the people who come every day are not the mean of all.

        Args:
            means: Sums of the gallery's cameras.
            walk: Everything seen of it; a walk that begins with a window seen before is the same.
            camera: Name of the camera that saw it.
            decision: The answer about it.
        """
        key = walk.windows[0].tobytes()
        if self._sha256 is None or self.distance.name == "euclidean" or key in self._walks:
            return
        self._walks[key] = None
        while len(self._walks) > MAX_WALKS:
            del self._walks[next(iter(self._walks))]
        name = decision.name if decision else None
        if name is not None and self._is_counted(camera, name):
            return
        empty = CameraMean.empty(camera, self._sha256, *walk.mean.shape)

        def with_walk(mean: CameraMean | None) -> CameraMean:
            counted: CameraMean = (mean or empty).with_walk(walk.mean, fade=FADE)
            return counted

        means.update(camera, self._sha256, with_walk)
        if len(walk.windows) > 1:
            scatter = means.load_scatter(camera, self._sha256)
            no_walks = CameraScatter(
                camera=camera, weights_sha256=self._sha256, degrees=0.0, total=np.zeros(())
            )
            means.save_scatter(with_deviations(scatter or no_walks, walk.windows))
        self._read_s = -np.inf

    def remember(self, walk: SeenWalk, decision: Decision) -> None:
        """Count a walk of a camera without a name, once, as long as this process runs.

        Args:
            walk: Everything seen of it.
            decision: The answer about it: somebody named is counted once.
        """
        key = walk.windows[0].tobytes()
        if self.distance.name == "euclidean" or key in self._walks:
            return
        self._walks[key] = None
        if decision.name is not None:
            if (UNNAMED, decision.name) in self._counted:
                return
            self._counted.add((UNNAMED, decision.name))
        self._passing = Crowd(1, walk.mean.astype(np.float64)).joined(self._passing)
        self._centres = {}

    def _prepared(self, snapshot: Snapshot, means: CameraMeans) -> TemplateIndex:
        """Return the index of a snapshot under the present means of the cameras."""
        if time.monotonic() - self._read_s >= REREAD_S:
            self._read(means)
        if self._index is None or self._snapshot is not snapshot:
            named = tuple(camera or UNNAMED for camera in snapshot.index.cameras)
            raw = replace(snapshot.index, cameras=named)
            people = means_of_people(raw)
            self._enrolled, self._spread = crowds(people), spread(people.get(UNNAMED))
            self._centres = {}
            if isinstance(raw, LargeIndex):
                self._index = raw.ready(self._adapted(), lambda c: self._centre(c, passing=False))
            else:
                self._index = fast_indexed(raw, self._adapted())
            self._snapshot, self._centres, self.is_stale = snapshot, {}, False
        if isinstance(self._index, CosineIndex) and not self._centres:
            self._index = self._index.centred(
                [self._centre(c, passing=False) for c in self._index.camera_names]
            )
        return self._index

    def _read(self, means: CameraMeans) -> None:
        """Read the sums of all cameras."""
        ours = [mean for mean in means.all() if mean.weights_sha256 == self._sha256]
        self._seen = {m.camera: Crowd(m.people, m.mean) for m in ours if m.people}
        self._centres, self._read_s = {}, time.monotonic()
        if self.distance.whitening is None:
            return
        self._scatter, self._degrees = np.zeros(self.distance.whitening.shape), 0.0
        for mean in ours:
            scatter = means.load_scatter(mean.camera, mean.weights_sha256)
            if scatter is not None:
                self._scatter += scatter.total
                self._degrees += scatter.degrees
        self.is_stale = self._degrees >= max(LEAST_DEGREES, 2 * self._adapted_by)

    def _adapted(self) -> Distance:
        """Return the model's distance, adapted to one's own walkers where enough are known."""
        if self._degrees < LEAST_DEGREES:
            return self.distance
        self._adapted_by = self._degrees
        return self.distance.adapted(self._scatter, self._degrees)

    def _centre(self, camera: str, *, passing: bool) -> Floats | None:
        """Return the mean that is subtracted from what a camera sees, [p, d].

        Args:
            camera: Name of the camera.
            passing: True for somebody who walks by, False for a template.
        """
        if (camera, passing) not in self._centres:
            everybody: Crowd | None = None
            for crowds in (self._enrolled, self._seen):
                for crowd in crowds.values():
                    everybody = crowd.joined(everybody)
            prior = _blend(everybody, self.distance.mean)
            enrolled, seen = self._enrolled.get(camera), self._seen.get(camera)
            if camera == UNNAMED and self._passing is not None:
                seen = self._passing.joined(seen)
            own = enrolled.joined(seen) if enrolled else seen
            if camera == UNNAMED and self._are_apart(enrolled, seen):
                own = seen if passing else enrolled
            self._centres[camera, passing] = _blend(own, prior)
        return self._centres[camera, passing]

    def _are_apart(self, enrolled: Crowd | None, seen: Crowd | None) -> bool:
        """Tell whether two crowds were seen by different cameras, as far as their means tell."""
        if enrolled is None or seen is None or min(enrolled.people, seen.people) < LEAST_APART:
            return False
        by_chance = self._spread * (1 / enrolled.people + 1 / seen.people)
        return float(np.square(enrolled.mean - seen.mean).sum()) > APART * by_chance

    def _is_counted(self, camera: str, name: str) -> bool:
        """Return whether a person is in a camera's sums already; notes that now they are."""
        if (camera, name) in self._counted:
            return True
        self._counted.add((camera, name))
        index = self._index
        if index is None or name not in index.names:
            return False
        place = index.names.index(name)
        walks = slice(*np.searchsorted(index.walk_starts, index.starts[place : place + 2]))
        return camera in index.cameras[walks]


def with_deviations(scatter: CameraScatter, windows: Floats) -> CameraScatter:
    """Return a scatter with the deviations of a walk's windows [k, p, d] from their mean."""
    rows = windows.astype(np.float64) - windows.mean(axis=0, dtype=np.float64)
    return replace(
        scatter,
        degrees=scatter.degrees * FADE + len(rows) - 1,
        total=scatter.total * FADE + np.einsum("kpd,kpe->pde", rows, rows),
    )


def _blend(crowd: Crowd | None, prior: Floats | None) -> Floats | None:
    if crowd is None:
        return prior
    return blended_mean(np.asarray(crowd.mean, np.float32), crowd.people, prior)
