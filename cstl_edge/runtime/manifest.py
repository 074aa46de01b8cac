"""`manifest.json` of an exported model: its files, the weights they are of, their precisions.

The exporter writes it, every runtime reads it before anything else. It comes from outside, so it
is read with a cap on its size and into a strict form; keys of later versions are ignored.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic

from cstl_edge.distance import EUCLIDEAN, Distance
from cstl_edge.errors import ModelError, one_line
from cstl_edge.foreign import load_json, parsing
from cstl_edge.runtime.base import EncoderInfo

NAME = "manifest.json"
MAX_MANIFEST_BYTES = 4 * 2**20
MAX_GRAPH_BYTES = 512 * 2**20  # the largest configuration of the paper is about 145 MB
PRECISIONS = ("float32", "fp16", "int8", "bfloat16")
FLOAT32_GRAPHS = ("frames.onnx", "head.onnx")
INCREMENTAL_FILES = ("taps.onnx", "mix.onnx", "slide.onnx")
"""The incremental head: `head.onnx` for windows that slide. Not every folder has it."""
STEP_FILE = "step.onnx"
"""The trunk and the incremental head in one, for one more frame of one walker; not in folders of
earlier versions."""

Count = Annotated[int, pydantic.Field(ge=1, le=65536)]
Sha256 = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]
Parsed = TypeVar("Parsed")
FileName = Annotated[str, pydantic.Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}\.onnx$")]
"""A bare name: no separators and no leading dot, so that it cannot point out of the folder."""


class Shape(pydantic.BaseModel):
    """The part of the network's configuration that a runtime has to know."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", strict=True)

    size: Annotated[tuple[Count, Count], pydantic.Strict(False)]  # of a silhouette, h w [pixels]
    widths: Annotated[tuple[Count, Count, Count, Count], pydantic.Strict(False)]  # trunk's layers
    parts: Count
    embedding: Count  # dimensions of one part's embedding
    salient: bool = True  # False in a network without SSFL, whose head names no salient frames

    @property
    def channels(self) -> int:
        """Return the channels of a part feature."""
        return self.widths[-1]

    @property
    def hidden(self) -> int:
        """Return the units of the hidden layers of Eq. 3 and 6: a 16th of three scales."""
        return max(1, 3 * self.channels // 16)

    @property
    def kept(self) -> dict[str, int]:
        """Return the numbers of each part of a frame that `slide` takes, by name."""
        c = self.channels
        return {"values": 3 * c, "logits": 3 * c, "judged": self.hidden, "gates": 2 * c}


class PrecisionVariant(pydantic.BaseModel):
    """The graphs of a precision other than float32, and their accuracy gate against it."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", strict=True)

    frames: FileName
    heads: dict[Literal["onnxruntime", "tensorrt", "openvino"], FileName]  # by backend
    tensorrt_frames: FileName | None = None  # laid out for TensorRT, where that is another file
    full: FileName | None = None
    cuts: Annotated[tuple[FileName, FileName, FileName], pydantic.Strict(False)] | None = None
    """The incremental head in this precision, for ONNX Runtime; without, float32's serves where the
    head is float32."""
    step: FileName | None = None  # `step.onnx` in this precision, of `frames` and `cuts`
    evidence: dict[str, Any] = {}
    """Calibration data: the silhouettes that it was calibrated and evaluated on."""
    judged: dict[str, Any] = {}  # figures and limits of the accuracy gates
    islands: list[dict[str, Any]] = []
    """Parts that stay in float32, the reason, and the range of their values on the silhouettes."""


class Matching(pydantic.BaseModel):
    """How embeddings of the model are compared, see `distance`."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", strict=True)

    distance: Literal["euclidean", "cosine"]
    weights: Annotated[
        tuple[Annotated[float, pydantic.Field(gt=0)], ...] | None, pydantic.Strict(False)
    ] = None
    """Of the rows that are compared, the parts and the joint one, in the mean; None: all equal."""
    joint: bool = False
    """Whether all parts give one more row, by `joint` [d, p, d] of the file."""
    fused_walks: Annotated[int, pydantic.Field(ge=0, le=64)] = 0
    """Walks of a person that are compared together too, `gallery.fusion`; 0: of earlier versions,
    where a person is as near as their nearest entry."""
    file: Literal["matching.npz"] | None = None
    """mean [p, d], whitening [p, d, d] and `joint`, float16."""
    sha256: Sha256 | None = None  # of the file
    data: dict[str, Any] = {}  # people whose statistics they are

    @property
    def format(self) -> Literal[2, 3]:
        """Format of a manifest with this."""
        return 3 if self.joint or self.fused_walks else 2


class Manifest(pydantic.BaseModel):
    """Contents of `manifest.json`."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", strict=True)

    format: Literal[1, 2, 3]
    """2: with `matching`, which a reader of 1 would leave out, and compare otherwise; 3: with a
    joint row or fused walks, which a reader of 2 does not know."""
    model: Annotated[str, pydantic.Field(max_length=200)]
    precision: Literal["float32"]  # of `frames.onnx`, `head.onnx` and `full.onnx`
    config: dict[str, Any]
    weights_sha256: Sha256
    opset: Count
    files: Annotated[dict[FileName, Sha256], pydantic.Field(min_length=1, max_length=16)]
    precisions: dict[Literal["fp16", "int8", "bfloat16"], PrecisionVariant] = {}
    """Further graphs; bfloat16 has none: OpenVINO computes float32's `frames` in it."""
    cpu_default: Literal["float32", "int8"] = "float32"  # on a CPU where none is chosen
    parity: dict[str, Any] = {}
    simplified: dict[str, Any] = {}
    matching: Matching | None = None  # None: folders of earlier versions, compared by `euclidean`
    impostors: dict[str, Any] | None = None
    confidence: dict[str, Any] | None = None  # curve and reliability, see `gallery.confidence`
    card: dict[str, Any] | None = None
    created_with: dict[str, Any] = {}

    @property
    def shape(self) -> Shape:
        """Return the part of the configuration that a runtime has to know (ValidationError)."""
        return Shape.model_validate(self.config)

    def encoder_info(
        self,
        backend: str,
        provider: str,
        precision: str,
        threads: int,
        *,
        distance: Distance = EUCLIDEAN,
        slides: bool = False,
        steps: bool = False,
    ) -> EncoderInfo:
        """Return the description of an encoder of this model.

        Args:
            backend: Name of the backend, as `runtime.load` has it.
            provider: Device that computes.
            precision: Precision of the graphs.
            threads: Number of threads of one run.
            distance: What `matching_file.read_distance` returns for the folder.
            slides: True where the encoder has the incremental head.
            steps: True where it has the graph `step` as well.
        """
        shape, weights = self.shape, self.weights_sha256
        sizes = (shape.size, shape.parts, shape.channels, shape.embedding)
        running = (backend, provider, precision, threads)
        return EncoderInfo(
            *running,
            self.model,
            weights,
            *sizes,
            impostors=self.impostors,
            distance=distance,
            confidence=self.confidence,
            slides=slides,
            steps=steps,
        )

    def graphs(self, precision: str, backend: str) -> tuple[str, str]:
        """Return the files of `frames` and `head` for a precision and a backend (ModelError)."""
        if precision == "float32":
            return FLOAT32_GRAPHS
        variant = self._variant(precision)
        if variant is None or backend not in variant.heads:
            there = ", ".join(["float32", *self.precisions])
            raise ModelError(
                f"expected {one_line(precision)} graphs for {one_line(backend)} in {self.model!r}; "
                f"it holds {there}. Add them: cstl-edge export WEIGHTS --precision "
                f"{one_line(precision)}"
            )
        own = variant.tensorrt_frames if backend == "tensorrt" else None
        return own or variant.frames, dict(variant.heads)[backend]

    def incremental_files(self, precision: str, int8: bool) -> Sequence[str]:
        """Return the files of the incremental head, in the order of `INCREMENTAL_FILES`, or none.

        int8: True where the runtime gains by int8 in them; OpenVINO took 1.47 ms for 1.40 of `taps`
        """
        variant = self._variant(precision)
        if variant and variant.cuts and int8:
            return variant.cuts
        _, head = self.graphs(precision, "openvino" if precision == "bfloat16" else "onnxruntime")
        # The float32 files are of the float32 head, which int8 and bfloat16 frames have too.
        slides = head == FLOAT32_GRAPHS[1] and set(INCREMENTAL_FILES) <= set(self.files)
        return INCREMENTAL_FILES if slides else ()

    def step_file(self, precision: str) -> str | None:
        """Return the file of `step` in ONNX Runtime; None where there is none of these graphs."""
        variant = self._variant(precision)
        name = variant.step if variant else STEP_FILE
        return name if name in self.files and (variant or precision == "float32") else None

    def _variant(self, precision: str) -> PrecisionVariant | None:
        return next((v for name, v in self.precisions.items() if name == precision), None)


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of an exported folder (ModelError)."""
    if not folder.is_dir():
        raise ModelError(
            f"expected an exported model, a folder with {NAME}; {one_line(folder)} is no folder"
        )

    def parse(content: Any) -> Manifest:
        manifest = Manifest.model_validate(content)
        _ = manifest.shape
        return manifest

    path = folder / NAME
    return parse_json(read_file(path, MAX_MANIFEST_BYTES), parse, path, "Export the model again")


def parse_json(
    raw: bytes, parse: Callable[[Any], Parsed], path: Path, remedy: str, root: str = ""
) -> Parsed:
    """Read a strict form from JSON that comes from outside (ModelError with the key).

    Args:
        raw: Bytes of the file.
        parse: Validation by pydantic, from the content to the form.
        path: Path of the file, for the message.
        remedy: Sentence that ends the message.
        root: Name in place of the key, for faults of the whole.
    """
    with parsing(path, "JSON", ModelError, remedy):
        try:
            return parse(load_json(raw))
        except pydantic.ValidationError as err:
            first = err.errors(include_url=False, include_input=False)[0]
            key = one_line(".".join(map(str, first["loc"])) or root)
            raise ModelError(
                f"{one_line(path)}: {key}: {one_line(first['msg'])}", remedy=remedy
            ) from err


def read_file(path: Path, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes`, never through a link, a pipe or a device.

    The bytes are what is checked and what is run: a file that changes later changes nothing.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as err:
        raise ModelError(f"{one_line(path)} is missing. Export the model again") from err
    except OSError as err:
        reason = "it is a link" if path.is_symlink() else one_line(err.strerror)
        raise ModelError(f"{one_line(path)} cannot be read: {reason}") from err
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        os.close(descriptor)
        raise ModelError(f"expected {one_line(path)} to be a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if state.st_size > max_bytes:
            raise ModelError(
                f"expected {one_line(path)} to hold at most {max_bytes} bytes; got {state.st_size}"
            )
        return file.read(state.st_size)
