"""`manifest.json` of an exported model: what is in the folder, of which weights, how precise.

The exporter writes it, every runtime reads it before anything else. It comes from outside, so it
is read with a cap on its size and into a strict form; keys of later versions are passed over.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from cstl_edge.errors import ModelError, one_line

NAME = "manifest.json"
MAX_MANIFEST_BYTES = 4 * 2**20
MAX_GRAPH_BYTES = 512 * 2**20  # the largest configuration of the paper is about 145 MB
PRECISIONS = ("float32", "fp16", "int8")
FLOAT32_GRAPHS = ("frames.onnx", "head.onnx")
SLIDING_GRAPHS = ("taps.onnx", "mix.onnx", "slide.onnx")  # head.onnx in cuts, not in every folder

Count = Annotated[int, pydantic.Field(ge=1, le=65536)]
Sha256 = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, pydantic.Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}\.onnx$")]
"""A bare name: no separators and no leading dot, so that it cannot point out of the folder."""


class Shape(pydantic.BaseModel):
    """The part of the network's configuration that a runtime has to know."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", strict=True)

    size: Annotated[tuple[Count, Count], pydantic.Strict(False)]
    """Height and width of a silhouette [pixels]."""
    widths: Annotated[tuple[Count, Count, Count, Count], pydantic.Strict(False)]
    """Channels of the trunk's four layers."""
    parts: Count
    embedding: Count
    """Dimensions of one part's embedding."""
    salient: bool = True
    """False in a network without SSFL, whose head tells no salient frames."""

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
        """Return what `slide` takes of each part of a frame, and how many numbers."""
        c = self.channels
        return {"values": 3 * c, "logits": 3 * c, "judged": self.hidden, "gates": 2 * c}


class Reduced(pydantic.BaseModel):
    """The graphs of a precision other than float32, and how they were judged against it."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", strict=True)

    frames: FileName
    heads: dict[Literal["onnxruntime", "tensorrt"], FileName]
    """Which head belongs to these frames, by backend."""
    full: FileName | None = None
    cuts: Annotated[tuple[FileName, FileName, FileName], pydantic.Strict(False)] | None = None
    """What ONNX Runtime slides windows by; without, by float32's where the head is float32."""
    evidence: dict[str, Any] = {}
    """The silhouettes that it was calibrated and judged on."""
    judged: dict[str, Any] = {}
    """What the gates measured, and their limits."""
    islands: list[dict[str, Any]] = []
    """What stays in float32, why, and what the values there span on the silhouettes."""


class Manifest(pydantic.BaseModel):
    """What an exported folder says of itself."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", strict=True)

    format: Literal[1]
    model: Annotated[str, pydantic.Field(max_length=200)]
    precision: Literal["float32"]
    """Of `frames.onnx`, `head.onnx` and `full.onnx`."""
    config: dict[str, Any]
    weights_sha256: Sha256
    opset: Count
    files: Annotated[dict[FileName, Sha256], pydantic.Field(min_length=1, max_length=16)]
    precisions: dict[Literal["fp16", "int8"], Reduced] = {}
    """Further graphs in the folder."""
    cpu_default: Literal["float32", "int8"] = "float32"
    """What a CPU takes when nobody says."""
    parity: dict[str, Any] = {}
    simplified: dict[str, Any] = {}
    impostors: dict[str, Any] | None = None
    card: dict[str, Any] | None = None
    created_with: dict[str, Any] = {}

    @property
    def shape(self) -> Shape:
        """Return the configuration as far as a runtime has to know it (ValidationError)."""
        return Shape.model_validate(self.config)

    def graphs(self, precision: str, backend: str) -> tuple[str, str]:
        """Return the files of `frames` and `head` for a precision and a backend (ModelError)."""
        if precision == "float32":
            return FLOAT32_GRAPHS
        found = next((one for name, one in self.precisions.items() if name == precision), None)
        if found is None or backend not in found.heads:
            there = ", ".join(["float32", *self.precisions])
            raise ModelError(
                f"expected {one_line(precision)} graphs for {one_line(backend)} in {self.model!r}; "
                f"it holds {there}. Add them: cstl-edge export WEIGHTS --precision "
                f"{one_line(precision)}"
            )
        return found.frames, dict(found.heads)[backend]

    def cuts(self, precision: str, integers: bool) -> Sequence[str]:
        """Return the files by which windows slide, in the order of `SLIDING_GRAPHS`, or none.

        integers: whether the runtime gains by int8 in them; OpenVINO took 1.47 ms for 1.40 of taps
        """
        own = next((one.cuts for name, one in self.precisions.items() if name == precision), None)
        if own and integers:
            return own
        _, head = self.graphs(precision, "onnxruntime")
        # The cuts are those of the float32 head, which int8 frames have too.
        slides = head == FLOAT32_GRAPHS[1] and set(SLIDING_GRAPHS) <= set(self.files)
        return SLIDING_GRAPHS if slides else ()


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of an exported folder; ModelError says what is wrong with it."""
    if not folder.is_dir():
        raise ModelError(
            f"expected an exported model, a folder with {NAME}; {one_line(folder)} is no folder"
        )
    raw = read_file(folder / NAME, MAX_MANIFEST_BYTES)
    try:
        manifest = Manifest.model_validate(json.loads(raw))
        _ = manifest.shape
    except pydantic.ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ModelError(
            f"{one_line(folder / NAME)}: {one_line(key)}: {one_line(first['msg'])}. "
            "Export the model again"
        ) from err
    except (ValueError, RecursionError) as err:
        raise ModelError(
            f"{one_line(folder / NAME)}: expected JSON; got {one_line(err)}. Export the model again"
        ) from err
    return manifest


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
        return file.read(max_bytes)
