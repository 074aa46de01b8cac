"""The encoders of this machine under the names of the contenders, for scenarios beyond one graph.

What `runtime.load` opens comes as it is; a contender that has no encoder, such as OpenVINO in
bfloat16, is taken for one of whole sequences. Letters: n sequences, s frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata, util
from typing import Any, Protocol

import numpy as np

from cstl_edge.arrays import Ints, Silhouettes
from cstl_edge.bench.backends.base import Backend, Call, Unavailable, backends
from cstl_edge.bench.backends.onnxruntime import COMPUTED_IN, no_graphs
from cstl_edge.bench.backends.pytorch import missing
from cstl_edge.bench.context import Context
from cstl_edge.bench.model_under_test import PRECISION_NAMES
from cstl_edge.bench.record import Ran, Row, Scenario
from cstl_edge.errors import CstlEdgeError, ModelError
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Embedded, Encoder, EncoderInfo
from cstl_edge.runtime.manifest import read_manifest
from cstl_edge.runtime.tensorrt.record import ENGINES, TENSORRT

SHORT = ("onnxruntime float32", "pytorch float32")
"""Who is measured in the short form."""
PACKAGES = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "pytorch": "torch",
    "tensorrt": "tensorrt",
}
FOLDERS = {"onnxruntime": ("float32", "fp16", "int8"), "openvino": ("float32", "int8")}
"""Backends of exported folders, and the precisions in which each is measured."""


@dataclass(frozen=True)
class Candidate:
    """An encoder that this machine has, to be opened when its turn comes."""

    name: str
    """As among the contenders of the graphs."""
    open: Callable[[], Encoder]
    """ModelError when it is refused."""


class Whole(Protocol):
    """What embeds whole sequences; an `Encoder` is one."""

    def encode(self, silhouettes: Silhouettes, lengths: Ints | None = None) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w]."""

    def close(self) -> None:
        """Give back what it holds."""


@dataclass(frozen=True)
class Embedder:
    """Who embeds whole sequences, and as what it really ran."""

    name: str
    whole: Whole
    ran: Callable[[], Ran]
    """To be asked when it has run."""


def candidates(context: Context) -> Iterator[Candidate | Unavailable]:
    """Yield the encoders of `runtime.load`: what is here, and what is missing with the reason."""
    yield from (found for found in _candidates(context) if asked(context, found.name))


def asked(context: Context, name: str) -> bool:
    """Tell whether a contender is measured in this form of the suite."""
    return not context.short or name in SHORT


def cores_of(ran: Ran) -> int | None:
    """Return how many cores were used; None where a GPU computed, or nobody says."""
    return ran.threads if ran.provider.lower().startswith("cpu") else None


def _candidates(context: Context) -> Iterator[Candidate | Unavailable]:
    for backend, precisions in FOLDERS.items():
        yield from (_of_folder(context, backend, precision) for precision in precisions)
    folder, threads = context.folder, context.threads
    reason, weights = missing(context), context.weights
    if reason:
        yield Unavailable("pytorch float32", reason)
    else:
        yield Candidate("pytorch float32", lambda: load(weights, "pytorch", threads))
    built = context.engines or folder
    if (built / ENGINES / TENSORRT).is_dir():
        yield Candidate("tensorrt float16", lambda: load(built, "tensorrt"))
    else:
        yield Unavailable("tensorrt float16", "no engines in the exported model: cstl-edge build")


def _of_folder(context: Context, backend: str, precision: str) -> Candidate | Unavailable:
    name = f"{backend} {PRECISION_NAMES[precision]}"
    if util.find_spec(backend) is None:
        return Unavailable(name, f"{backend} is not here: pip install {backend}")
    if precision != "float32" and precision not in read_manifest(context.folder).precisions:
        return Unavailable(name, no_graphs(precision))
    return Candidate(name, lambda: load(context.folder, backend, context.threads, precision))


def embedders(context: Context, anew: bool = False) -> Iterator[Embedder | Unavailable]:
    """Yield all that embed whole sequences, each open when it comes and closed after it.

    anew: take contenders that are opened anew for every call too, whose times would mean nothing
    Compiled PyTorch is left out, since it computes what eager PyTorch does and compiles anew for
    every shape.
    """
    covered = set()
    for found in candidates(context):
        covered.add(found.name)
        yield from [found] if isinstance(found, Unavailable) else _opened(found)
    for contender in backends(context):
        if contender.name in covered or "compiled" in contender.name:
            continue
        if not asked(context, contender.name):
            continue
        if isinstance(contender, Unavailable):
            yield contender
        elif "full" in contender.graphs:
            yield from _adapted(contender, anew)


def ran_of(info: EncoderInfo) -> Ran:
    """Return how an encoder runs, as it tells of itself."""
    try:
        version = metadata.version(PACKAGES.get(info.backend, info.backend))
    except metadata.PackageNotFoundError:
        version = "unknown"
    on_cpu = info.backend in FOLDERS
    precision = PRECISION_NAMES.get(info.precision, info.precision)
    return Ran(
        backend=info.backend,
        provider=info.provider,
        precision=precision,
        computed_in=COMPUTED_IN.get(info.precision, precision) if on_cpu else precision,
        version=version,
        threads=info.threads or None,
    )


@dataclass
class OfContender:
    """A contender's graph `full` as an encoder of whole sequences, opened once per shape.

    Its inputs are written over between runs. A contender that took them once and for all, on a
    device for instance, is opened for every call where `anew` allows it, else refused (ModelError).
    """

    contender: Backend
    anew: bool = False
    ran: Ran | None = None
    """Of the last run."""
    _keeps: bool = False
    _open: dict[tuple[int, ...], tuple[dict[str, Any], Call]] = field(default_factory=dict)

    def encode(self, silhouettes: Silhouettes, lengths: Ints | None = None) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w]."""
        n, s = shape = silhouettes.shape[:2]
        if shape not in self._open:
            self._open[shape] = self._prepare(silhouettes.shape)
        feed, call = self._open[shape]
        feed["silhouettes"][:] = silhouettes
        feed["lengths"][:] = np.full(n, s, np.int32) if lengths is None else lengths
        if self._keeps:
            call.close()
            call = self.contender.prepare("full", feed)
            self._open[shape] = feed, call
        call.run()
        self.ran = call.ran
        found = call.outputs()
        none = np.full(found["embedding"].shape[:2], -1, np.int32)
        return Embedded(found["embedding"].copy(), found.get("salient_frames", none).copy())

    def close(self) -> None:
        """Close what was opened."""
        for _, call in self._open.values():
            call.close()
        self._open.clear()

    def _prepare(self, shape: tuple[int, ...]) -> tuple[dict[str, Any], Call]:
        """Open the graph for a shape, and see whether it reads its inputs at every run."""
        lengths = np.full(shape[0], shape[1], np.int32)
        feed: dict[str, Any] = {"silhouettes": np.zeros(shape, np.uint8), "lengths": lengths}
        call = self.contender.prepare("full", feed)
        call.run()
        before = call.outputs()["embedding"].copy()
        feed["silhouettes"][:, :, shape[2] // 4 : shape[2] // 2] = 255
        call.run()
        self._keeps = np.array_equal(before, call.outputs()["embedding"])
        if self._keeps and not self.anew:
            call.close()
            raise ModelError(
                f"{self.contender.name} keeps the inputs that it was opened with: whole sequences "
                "cannot be embedded in turn; its times are those of the scenario `graph`"
            )
        return feed, call


def _opened(candidate: Candidate) -> Iterator[Embedder | Unavailable]:
    try:
        encoder = candidate.open()
    except CstlEdgeError as err:
        yield Unavailable(candidate.name, str(err))
        return
    try:
        yield Embedder(candidate.name, encoder, lambda: ran_of(encoder.info))
    finally:
        encoder.close()


def _adapted(contender: Backend, anew: bool) -> Iterator[Embedder]:
    whole = OfContender(contender, anew)

    def ran() -> Ran:
        if whole.ran is None:
            raise ModelError(f"{contender.name} has not run: expected `encode` before")
        return whole.ran

    try:
        yield Embedder(contender.name, whole, ran)
    finally:
        whole.close()


def result(context: Context, scenario: Scenario, contender: str, **told: Any) -> Row:
    """Return a row of a call; `told` as the fields of `Row`."""
    return Row(
        run=context.run,
        scenario=scenario,
        contender=contender,
        subject=context.subject,
        environment=context.environment,
        **told,
    )
