"""Ways to have an answer about one more frame of a walker: a stream, or a whole window anew.

Each holds its answers against those of one reference, whatever the walk's turn. Letters: s frames,
p parts, c channels, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Floats, Ints, Silhouettes
from cstl_edge.bench.backends.base import USUAL, Contender
from cstl_edge.bench.backends.encoders import Candidate, candidates, ran_of
from cstl_edge.bench.context import Context
from cstl_edge.bench.output_check import LIMITS, SALIENT, Agreement
from cstl_edge.bench.record import Case, Ran
from cstl_edge.errors import ModelError
from cstl_edge.runtime.base import Encoder
from cstl_edge.runtime.streaming.encoder import StreamingEncoder, StreamResult

REFERENCES = (USUAL, "onnxruntime float32")
"""Whose answers count, the first that is here."""
STREAMED = ("onnxruntime float32", "onnxruntime int8", "tensorrt float16")
"""Who streams in the default form; the long one streams on every encoder."""
WHOLE_WINDOWS = "whole windows"  # an option of contenders that could let windows slide
CROWD = 3  # walkers whose answers are looked at

Outputs = dict[str, npt.NDArray[Any]]


@dataclass
class StreamingCase:
    """One way to have an answer about one more frame."""

    name: str
    case: Case
    ran: Ran
    run: Callable[[], None]
    frames: int
    """That one run takes in."""
    look: Callable[[], None]
    """Hold the last answer against the reference's."""
    agreement: Agreement
    step: Callable[[], None]
    """Take in one frame, or a whole window anew."""

    @property
    def streams(self) -> bool:
        """Tell whether it takes in frame by frame."""
        return self.case.graph == "streaming"

    @property
    def usual(self) -> bool:
        """Tell whether it is the usual way."""
        return self.name == USUAL and not self.streams

    @property
    def key(self) -> str:
        """Name it among the others."""
        return f"{self.name}, {self.case.graph}, hop {self.case.hop}"


def stream_case(
    name: str, encoder: Encoder, reference: Reference, hop: int, slide: bool
) -> StreamingCase:
    """Return streaming with an answer at every `hop`-th frame.

    slide: where the encoder can, compute again only what a slide changes in a window
    """
    taken = WalkStream(encoder, reference.walk, hop, slide)
    slides = slide and encoder.info.slides
    options = {"windows": "slide" if slides else "whole"}
    ran = ran_of(encoder.info).model_copy(update={"options": options})
    agreement = reference.agreement(ran)

    def look() -> None:
        answered_at = taken.seen - (taken.seen - len(reference.walk)) % hop
        agreement.reference = reference.at(answered_at)
        if taken.answer is not None:
            agreement.look(
                named_outputs(taken.answer.embedding[None], taken.answer.salient_frames[None])
            )

    case = Case(graph="streaming", frames=len(reference.walk), hop=hop, walkers=1)
    return StreamingCase(name, case, ran, taken.hop, hop, look, agreement, taken.step)


def window_case(
    contender: Contender,
    feed: Mapping[str, Any],
    case: Case,
    reference: Reference,
    stack: ExitStack,
) -> StreamingCase:
    """Return the whole window anew by a contender of the graphs, to be closed with the stack."""
    call = contender.prepare("full", feed)
    stack.callback(call.close)
    call.run()
    agreement = reference.agreement(call.ran)

    def run() -> None:
        call.run()

    return StreamingCase(
        contender.name,
        case,
        call.ran,
        run,
        1,
        lambda: agreement.look(call.outputs()),
        agreement,
        run,
    )


def crowd_check(encoder: Encoder, reference: Reference, hop: int, slide: bool = True) -> Agreement:
    """Return how the answers of several walkers, each at another turn of the walk, agree."""
    walk = reference.walk
    stream_case = StreamingEncoder[int](encoder, len(walk), hop, slide=slide)
    agreement = reference.agreement(ran_of(encoder.info))
    for t in range(len(walk) + 2 * hop):
        seen = {w: walk[(t + w) % len(walk)] for w in range(CROWD)}
        for w, answer in stream_case.push(seen).items():
            agreement.reference = reference.at(t + 1 + w)
            agreement.look(named_outputs(answer.embedding[None], answer.salient_frames[None]))
    return agreement


def wrong_answers(agreement: Agreement) -> dict[str, Any]:
    """Return what stands in the row of a way that answers wrongly."""
    return {"check": agreement.check, "skipped": agreement.wrong}


class WalkStream:
    """A stream of one walker who goes round and round one walk."""

    def __init__(self, encoder: Encoder, walk: Silhouettes, hop: int, slide: bool) -> None:
        self._stream = StreamingEncoder[int](encoder, len(walk), hop, slide=slide)
        self._walk, self._hop = walk, hop
        self.seen = 0
        self.answer: StreamResult | None = None
        for _ in range(len(walk) + hop):  # until the rings are full and everything ran once
            self.step()

    def step(self) -> None:
        """Take in one frame."""
        answers = self._stream.push({0: self._walk[self.seen % len(self._walk)]})
        self.seen += 1
        self.answer = answers.get(0, self.answer)

    def hop(self) -> None:
        """Take in as many frames as lie between two answers."""
        for _ in range(self._hop):
            self.step()


class Reference:
    """What the whole head says of every turn of the walk."""

    def __init__(self, name: str, encoder: Encoder, walk: Silhouettes) -> None:
        self.name, self.walk, self._encoder = name, walk, encoder
        self._features: Floats = self._encoder.frames(walk)  # [s, p, c]
        self._said: dict[int, Outputs] = {}

    def at(self, seen: int) -> Outputs:
        """Return the outputs for the window of the last frames, when so many were seen."""
        turn = seen % len(self.walk)
        if turn not in self._said:
            window_case = np.roll(self._features, -turn, 0)[None]  # [1, s, p, c]
            said = self._encoder.head(window_case, np.array([len(self.walk)], np.int32))
            self._said[turn] = named_outputs(said.embedding, said.salient_frames)
        return self._said[turn]

    def agreement(self, ran: Ran) -> Agreement:
        """Return where the answers of one way are gathered."""
        return Agreement(self.name, self.at(0), LIMITS[ran.precision])


def first_reference(names: Iterable[str]) -> str:
    """Return whose answers count among encoders (ModelError where nobody's do)."""
    here = set(names)
    for name in REFERENCES:
        if name in here:
            return name
    raise ModelError(f"expected {' or '.join(REFERENCES)} to compare answers with; got neither")


@contextmanager
def open_reference(context: Context, walk: Silhouettes) -> Iterator[Reference]:
    """Open the encoder whose answers count (ModelError)."""
    here = {found.name: found for found in candidates(context) if isinstance(found, Candidate)}
    name = first_reference(here)
    encoder = here[name].open()
    try:
        yield Reference(name, encoder, walk)
    finally:
        encoder.close()


def named_outputs(embedding: Floats, salient: Ints) -> Outputs:
    """Return an answer [n, p, ..] by the names of the graph's outputs."""
    return {"embedding": embedding} | ({SALIENT: salient} if salient.min() >= 0 else {})
