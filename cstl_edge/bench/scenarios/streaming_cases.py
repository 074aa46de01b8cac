"""Streaming timing cases: one more frame of a walker, by streaming or by a whole window anew.

Every case compares its answers with those of one reference, at whatever turn of the walk they come.
Letters: n sequences, s frames, p parts, c channels, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from cstl_edge.arrays import Array, Floats, Ints, Silhouettes
from cstl_edge.bench.backends.base import BASELINE, Backend, StreamingBackend, ran_of
from cstl_edge.bench.backends.open import streaming_backends
from cstl_edge.bench.context import Context
from cstl_edge.bench.output_check import LIMITS, SALIENT, SCORES, OutputCheck
from cstl_edge.bench.record import Case, Ran
from cstl_edge.bench.salient_scores import SalientScores, salient_scores
from cstl_edge.bench.scenarios.shared import WHOLE_WINDOW, first_reference
from cstl_edge.runtime.base import Embedded, Encoder
from cstl_edge.runtime.streaming.encoder import StreamingEncoder, StreamResult

STREAMED = ("onnxruntime float32", "onnxruntime int8", "tensorrt float16")
"""Encoders that stream in the default form; the long one streams on every encoder."""
WHOLE_WINDOWS = "whole windows"  # option of backends that could let windows slide
CROWD = 3  # walkers whose answers are checked

Outputs = dict[str, Array]


@dataclass
class StreamingCase:
    """One case of an answer about one more frame, ready to be timed."""

    name: str  # of the backend under test
    case: Case
    ran: Ran
    run: Callable[[], None]
    frames: int  # frames that one `run` takes in
    check: Callable[[], None]  # compare the last answer with the reference's
    output_check: OutputCheck
    step: Callable[[], None]  # take in one frame, or a whole window anew

    @property
    def streams(self) -> bool:
        """Tell whether it takes in frame by frame."""
        return self.case.graph == "streaming"

    @property
    def is_baseline(self) -> bool:
        """Tell whether it is the baseline: eager PyTorch on whole windows."""
        return self.name == BASELINE and not self.streams

    @property
    def key(self) -> str:
        """Return a name that is unique among the cases."""
        return f"{self.name}, {self.case.graph}, hop {self.case.hop}"


class Reference:
    """Answers of a whole head for every turn of a walk."""

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        walk: Silhouettes,
        scores: SalientScores | None = None,
    ) -> None:
        """Compute the features of a walk.

        Args:
            name: Name of the backend.
            encoder: Encoder of the backend.
            walk: Silhouettes [s, h, w]; their number is the window's length.
            scores: What gives the scores behind salient frames; None counts ties as others.
        """
        self.name, self.walk, self._encoder, self._scores = name, walk, encoder, scores
        self._features: Floats = encoder.frames(walk)  # [s, p, c]
        self._answers: dict[int, Outputs] = {}

    def outputs_after(self, seen: int) -> Outputs:
        """Return the outputs for the window of the last frames, after `seen` frames."""
        turn = seen % len(self.walk)
        if turn not in self._answers:
            window = np.roll(self._features, -turn, 0)[None]  # [1, s, p, c]
            answer = self._encoder.head(window, np.array([len(self.walk)], np.int32))
            self._answers[turn] = named_outputs(answer.embedding, answer.salient_frames)
            if self._scores is not None:
                self._answers[turn][SCORES] = self._scores.of_windows(window)
        return self._answers[turn]

    def output_check(self, ran: Ran) -> OutputCheck:
        """Return an empty output check with the limits of a backend's precision."""
        return OutputCheck(self.name, self.outputs_after(0), LIMITS[ran.precision])

    def compare(
        self, output_check: OutputCheck, seen: int, answer: StreamResult | Embedded
    ) -> None:
        """Add one walker's answer to an output check.

        Args:
            output_check: Check that gathers the comparisons.
            seen: Number of frames of the walk that the walker had shown.
            answer: Embedding [p, d] and salient frames [p], negative where they are not reported.
        """
        output_check.reference = self.outputs_after(seen)
        output_check.add(named_outputs(answer.embedding[None], answer.salient_frames[None]))


@contextmanager
def open_reference(context: Context, walk: Silhouettes) -> Iterator[Reference]:
    """Open the encoder whose answers are the reference (ModelError)."""
    encoders = {x.name: x for x in streaming_backends(context) if isinstance(x, StreamingBackend)}
    name = first_reference(encoders)
    with closing(encoders[name].open_encoder()) as encoder:
        yield Reference(name, encoder, walk, salient_scores(context.folder))


class WalkStream:
    """Stream of one walker who repeats one walk, its window full."""

    def __init__(
        self, encoder: Encoder, walk: Silhouettes, hop: int, *, slide: bool = True
    ) -> None:
        """Fill the window; everything has run once then.

        Args:
            encoder: Encoder that streams.
            walk: Silhouettes [s, h, w]; their number is the window's length.
            hop: Frames between two answers.
            slide: True computes only what a slide changes in a window, where the encoder can.
        """
        self._stream = StreamingEncoder[int](encoder, len(walk), hop, slide=slide)
        self._walk, self._hop, self.seen = walk, hop, 0
        self.answer: StreamResult | None = None
        for _ in range(len(walk) + hop):  # until the rings are full and everything ran once
            self.step()

    def step(self) -> int:
        """Take in one frame; return the number of answers, 0 or 1."""
        answers = self._stream.push({0: self._walk[self.seen % len(self._walk)]})
        self.seen += 1
        self.answer = answers.get(0, self.answer)
        return len(answers)

    def run_hop(self) -> None:
        """Take in as many frames as lie between two answers."""
        for _ in range(self._hop):
            self.step()


def stream_case(
    name: str, encoder: Encoder, reference: Reference, hop: int, slide: bool
) -> StreamingCase:
    """Return streaming with an answer at every `hop`-th frame.

    Args:
        name: Name of the backend under test.
        encoder: Encoder that streams.
        reference: Answers for the same walk.
        hop: Frames between two answers.
        slide: True computes only what a slide changes in a window, where the encoder can.
    """
    stream = WalkStream(encoder, reference.walk, hop, slide=slide)
    options = {"windows": "slide" if slide and encoder.info.slides else "whole"}
    ran = ran_of(encoder.info).model_copy(update={"options": options})
    output_check = reference.output_check(ran)

    def check() -> None:
        answered_at = stream.seen - (stream.seen - len(reference.walk)) % hop
        if stream.answer is not None:
            reference.compare(output_check, answered_at, stream.answer)

    def step() -> None:
        stream.step()

    case = Case(graph="streaming", frames=len(reference.walk), hop=hop, walkers=1)
    return StreamingCase(name, case, ran, stream.run_hop, hop, check, output_check, step)


def window_case(
    backend: Backend, feed: Mapping[str, Any], reference: Reference, stack: ExitStack
) -> StreamingCase:
    """Return a whole window anew by a backend of the graphs (ModelError).

    Args:
        backend: Backend under test.
        feed: Inputs of the graph `full`.
        reference: Answers for the same walk.
        stack: Stack that closes the graph.
    """
    call = stack.enter_context(closing(backend.open_graph("full", feed)))
    call.run()
    output_check = reference.output_check(call.ran)

    def run() -> None:
        call.run()

    def check() -> None:
        output_check.add(call.outputs())

    case = WHOLE_WINDOW
    return StreamingCase(backend.name, case, call.ran, run, 1, check, output_check, run)


def crowd_check(
    encoder: Encoder, reference: Reference, hop: int, slide: bool = True
) -> OutputCheck:
    """Return how the answers of several walkers, each at another turn of the walk, agree.

    Args:
        encoder: Encoder that streams.
        reference: Answers for the same walk.
        hop: Frames between two answers.
        slide: True computes only what a slide changes in a window, where the encoder can.
    """
    walk = reference.walk
    stream = StreamingEncoder[int](encoder, len(walk), hop, slide=slide)
    output_check = reference.output_check(ran_of(encoder.info))
    for t in range(len(walk) + 2 * hop):
        frame = {w: walk[(t + w) % len(walk)] for w in range(CROWD)}
        for w, answer in stream.push(frame).items():
            reference.compare(output_check, t + 1 + w, answer)
    return output_check


def named_outputs(embedding: Floats, salient_frames: Ints) -> Outputs:
    """Return an answer [n, p, ..] by the names of the graph's outputs."""
    salient = {SALIENT: salient_frames} if salient_frames.min() >= 0 else {}
    return {"embedding": embedding, **salient}
