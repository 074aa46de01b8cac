"""The engines of one thread, on one stream: calls of any size become calls of a few buckets."""

from __future__ import annotations

import numpy as np

from cstl_edge.errors import ModelError
from cstl_edge.runtime.base import Floats, Ints, Silhouettes
from cstl_edge.runtime.cuda import Buffers
from cstl_edge.runtime.trt_engine import ROWS, Array, Engine, frame_bucket, pieces, row_bucket


class Session:
    """What one thread needs: a stream and both engines on it."""

    def __init__(self, buffers: Buffers, engines: dict[str, Engine]) -> None:
        """Take open engines; they are closed with the session."""
        self.buffers, self.engines = buffers, engines

    def frames(self, silhouettes: Silhouettes) -> Floats:
        """Return the part features [m, p, c] of silhouettes [m, h, w]."""
        engine = self.engines["frames"]
        found = []
        for piece in pieces(len(silhouettes), _largest(engine.most("silhouettes", 0))):
            given = silhouettes[piece]
            bucket = row_bucket(len(given))
            lane = engine.lane(self.buffers, {"silhouettes": (bucket, *given.shape[1:])}, True)
            lane.host["silhouettes"][: len(given)] = given
            lane.host["silhouettes"][len(given) :] = 0
            found.append(lane.run()["features"][: len(given)].astype(np.float32))
        return np.concatenate(found)

    def head(self, features: Floats, lengths: Ints) -> list[tuple[Array, Array | None]]:
        """Return embeddings and salient frames of windows [n, s, p, c], piece by piece."""
        engine = self.engines["head"]
        n, s = features.shape[:2]
        window, most = engine.built.window, engine.most("features", 1)
        if s > most:
            raise ModelError(
                f"expected windows of at most {most} frames, as this engine was built; got {s}. "
                "Build it again with --frames large enough"
            )
        wide = frame_bucket(s, window, most)
        at_most = min(engine.most("features", 0), max(1, ROWS[-1] * window // wide))
        found: list[tuple[Array, Array | None]] = []
        for piece in pieces(n, _largest(at_most)):
            given, rows = features[piece], row_bucket(len(features[piece]))
            shapes = {"features": (rows, wide, *features.shape[2:]), "lengths": (rows,)}
            lane = engine.lane(self.buffers, shapes, graph=wide == window)
            host = lane.host
            host["features"][...] = 0
            host["features"][: len(given), :s] = given  # [n, s, p, c]
            host["lengths"][...] = 1  # of the filler rows, whose answers are dropped
            host["lengths"][: len(given)] = lengths[piece]
            answer = lane.run()
            salient = answer.get("salient_frames")
            embedding = answer["embedding"][: len(given)].astype(np.float32)
            found.append((embedding, None if salient is None else salient[: len(given)].copy()))
        return found

    def full(self, silhouettes: Silhouettes, lengths: Ints) -> list[tuple[Array, Array | None]]:
        """Return embeddings and salient frames of sequences [n, s, h, w], piece by piece.

        The live path has no use for it: this is how a build compares the engine it has made.
        """
        engine = self.engines["full"]
        found: list[tuple[Array, Array | None]] = []
        for piece in pieces(len(silhouettes), engine.most("silhouettes", 0)):
            given: dict[str, Array] = {"silhouettes": silhouettes[piece], "lengths": lengths[piece]}
            shapes = {name: array.shape for name, array in given.items()}
            lane = engine.lane(self.buffers, shapes, graph=False)
            for name, array in given.items():
                lane.host[name][...] = array
            answer = lane.run()
            salient = answer.get("salient_frames")
            embedding = answer["embedding"].astype(np.float32)
            found.append((embedding, None if salient is None else salient.copy()))
        return found

    def close(self) -> None:
        """Give everything back, engines before the memory they point to."""
        for engine in self.engines.values():
            engine.close()
        self.buffers.close()


def _largest(most: int) -> int:
    """Return the largest bucket of rows within a limit."""
    return max(bucket for bucket in ROWS if bucket <= most)
