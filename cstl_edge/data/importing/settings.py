"""Settings of preparing a dataset: all that its bytes follow from, besides the source."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from cstl_edge.config import StrictModel
from cstl_edge.data.importing.layouts.open import LAYOUTS
from cstl_edge.errors import ConfigError
from cstl_edge.silhouette import SIZES, SMALL


def _known_layout(name: str) -> str:
    try:
        return LAYOUTS.canonical(name)
    except ConfigError as err:  # pydantic reports a ValueError with the key
        raise ValueError(str(err)) from err


LayoutName = Annotated[str, AfterValidator(_known_layout)]
"""A name of the table LAYOUTS; `splits.SPLITS` has the datasets that are split."""


class PrepareSettings(StrictModel):
    """Options of `data prepare`; kept in the index of the dataset."""

    dataset: LayoutName  # how the source lies on disk
    size: tuple[int, int] = SMALL  # height and width of a silhouette in pixels
    min_frames: int = Field(default=1, ge=1)  # sequences with fewer usable frames are dropped
    max_frames: int = Field(default=720, ge=1)  # of a longer sequence, the first usable ones
    # whether images are aligned silhouettes or masks; auto decides by their size
    form: Literal["auto", "aligned", "raw"] = "auto"
    # which masks show a person: those of the live path, or all that published figures rest on;
    # auto means the latter for the field's datasets, the former for plain folders
    gate: Literal["auto", "live", "field"] = "auto"
    partial: bool = False  # views of the dataset may be missing altogether

    @property
    def mask_rule(self) -> Literal["live", "field"]:
        """The rule by which masks are used; `auto` is resolved."""
        if self.gate == "auto":
            return "live" if self.dataset == "folder" else "field"
        return self.gate

    @field_validator("size")
    @classmethod
    def _known_size(cls, size: tuple[int, int]) -> tuple[int, int]:
        if size not in SIZES:
            raise ValueError(f"expected a size of {SIZES}, got {size}")
        return size
