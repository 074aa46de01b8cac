"""The head in cuts as int8: calibrated and judged as it is used, in windows that slide.

Letters: m walks, s frames, p parts, c channels, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from cstl_edge.export import judge
from cstl_edge.export.judge import Answers, Floats, Judgement
from cstl_edge.export.quantise_cuts import products, quantise_products
from cstl_edge.export.ranges import Watched
from cstl_edge.export.subject import Subject, session
from cstl_edge.runtime.base import Embedded
from cstl_edge.runtime.sliding import SlidingRing, Slots, embed_slid

WINDOW = 30  # frames at most
SLID = 5
"""Frames by which a window slides before it is judged again: by then every frame near its ends has
had other neighbours than at first."""
STATES = ("full", "slid")


@dataclass(frozen=True)
class Opened:
    """`taps`, `mix` and `slide` as sessions, as far as windows slide by them."""

    sessions: Mapping[str, Any]

    def taps(self, features: Floats) -> tuple[Floats, Floats]:
        """Return shares and gates of frames."""
        shares, gates = self.sessions["taps"].run(None, {"features": features})
        return shares, gates

    def mix(self, features: Floats, sums: Floats) -> tuple[Floats, Floats]:
        """Return logits and the hidden layer of the scores."""
        feed = {"features": features, "sums": sums}
        logits, judged = self.sessions["mix"].run(None, feed)
        return logits, judged

    def slide(self, kept: Mapping[str, Floats], slots: Slots) -> Embedded:
        """Return the answers of windows."""
        return Embedded(*self.sessions["slide"].run(None, {**kept, "slots": slots}))


def make(subject: Subject, frames: Any) -> dict[str, onnx.ModelProto]:
    """Return the cuts that gain by int8, calibrated behind the frames that they will run behind.

    frames: a session of the int8 trunk
    Raises ExportError for silhouettes of which nothing can be learned.
    """
    watched = {
        name: Watched(f"{name}.onnx", model, [node.input[0] for node in products(model)])
        for name, model in subject.cuts.items()
    }
    for walk in judge.features(frames, subject.evidence.calibration):
        for _ in answers(Opened(watched), walk):
            pass
    return {
        name: quantise_products(model, watched[name].seen)
        for name, model in subject.cuts.items()
        if products(model)
    }


def judged(
    subject: Subject, made: Mapping[str, onnx.ModelProto], features: Sequence[Floats]
) -> dict[str, Judgement]:
    """Hold windows that slid by int8 against whole windows in float32, by `STATES`.

    made: the cuts in int8; the others are float32
    features: what the int8 trunk says of the walks to judge on, [s, p, c] each
    """
    cuts = {
        name: session(f"{name}.int8.onnx", made.get(name, plain))
        for name, plain in subject.cuts.items()
    }
    window = length(features[0])
    rows = [list(answers(Opened(cuts), walk)) for walk in features]
    found = {}
    for state, at in zip(STATES, (0, -1), strict=True):
        end = window if state == "full" else len(features[0])
        reference = subject.answers([walk[end - window : end] for walk in subject.features])
        own = [row[at] for row in rows]
        said = Answers(
            np.concatenate([one.embedding for one in own]),
            np.concatenate([one.salient_frames for one in own]),
        )
        found[state] = judge.judge(reference, said, subject.evidence.walks, judge.INT8)
        found[state].told["window_frames"] = window
    return found


def answers(cuts: Opened, walk: Floats) -> Iterator[Embedded]:
    """Yield what is said of a walk [s, p, c] when its window is full, and after each slide."""
    window = length(walk)
    parts, channels = walk.shape[1:]
    ring = SlidingRing(window, parts, channels, window)
    for feature in walk:
        ring.push(feature)
        if ring.seen >= window:
            yield embed_slid(cuts, [ring])


def length(walk: Floats) -> int:
    """Return how many frames of a walk are its window, so that some are left to slide by."""
    return min(WINDOW, max(len(walk) - SLID, (len(walk) + 1) // 2))
