"""Manifest of a mask network: a JSON file beside its ONNX that says what goes in and comes out.

Every network that masks people comes in by it, ours and others' alike: another one is another
manifest. Pixels 0..255 of a square crop become (pixel - mean) / std, per channel in the order of
the network's own colours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from cstl_edge.errors import ModelError, one_line
from cstl_edge.runtime.manifest import FileName, Sha256, parse_json, read_file

ASSETS = Path(__file__).parents[2] / "assets"
SHIPPED = ASSETS / "person_mask.json"  # BlazePose lite
SMALL = ASSETS / "person_mask_small.json"  # ours, a fifth of its cost
MAX_MANIFEST_BYTES = 2**16
MAX_SIDE = 1024  # pixels

Name = Annotated[str, pydantic.Field(min_length=1, max_length=100)]
Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]
Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
PerChannel = Annotated[tuple[Finite, Finite, Finite], pydantic.Strict(False)]


class _MaskForm(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)


class MaskInput(_MaskForm):
    """The input: float32 crops of any number."""

    name: Name
    layout: Literal["NHWC", "NCHW"]
    side: Annotated[int, pydantic.Field(ge=32, le=MAX_SIDE)]  # of a crop [pixels]
    colours: Literal["RGB", "BGR"]  # order of the channels
    mean: PerChannel  # subtracted from pixels of 0..255
    std: Annotated[
        tuple[Positive, Positive, Positive], pydantic.Strict(False)
    ]  # then divided by it

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Return the sizes of the input; None is the number of crops."""
        side = self.side
        return (None, side, side, 3) if self.layout == "NHWC" else (None, 3, side, side)


class MaskOutput(_MaskForm):
    """An output of numbers that say how much of a person there is."""

    name: Name
    meaning: Literal["logit", "probability"]


class MaskManifest(_MaskForm):
    """Contents of the manifest."""

    format: Literal[1]
    name: Annotated[str, pydantic.Field(min_length=1, max_length=200)]
    licence: Annotated[str, pydantic.Field(min_length=1, max_length=200)]  # SPDX identifier
    notice: Annotated[str, pydantic.Field(max_length=200)] | None = None  # file with its origin
    file: FileName
    sha256: Sha256  # of the file
    input: MaskInput
    mask: MaskOutput
    """One number per pixel of a crop: [m, side, side], with an axis of 1 where channels are."""
    presence: MaskOutput | None = None
    """One number per crop: whether somebody is in it. Without, the mask's largest decides."""


def read_mask_manifest(path: Path | None = None) -> MaskManifest:
    """Read and check a manifest (ModelError); the shipped one's without a path."""
    place = SHIPPED if path is None else path
    if not place.is_file():
        raise ModelError(
            f"expected the manifest of a mask network, a .json file; {one_line(place)} is none"
        )
    raw = read_file(place, MAX_MANIFEST_BYTES)
    return parse_json(
        raw,
        MaskManifest.model_validate,
        place,
        "Compare it with docs/extending.md",
        root="manifest",
    )
