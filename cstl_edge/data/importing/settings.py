"""Settings of preparing a dataset: all that its bytes follow from, besides the source."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from cstl_edge.data.importing.layouts.open import LAYOUTS
from cstl_edge.silhouette import SIZES, SMALL

MaskRule = Literal["live", "field"]


def _known_layout(name: str) -> str:
    if name not in LAYOUTS:
        raise ValueError(f"expected a dataset layout of {', '.join(LAYOUTS)}")
    return name


LayoutName = Annotated[str, AfterValidator(_known_layout)]
"""A name of the table LAYOUTS; `splits.SPLITS` has the datasets that are split."""


class PrepareSettings(BaseModel):
    """Options of `data prepare`; kept in the index of the dataset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: LayoutName
    """How the source lies on disk."""
    size: tuple[int, int] = SMALL
    """Height and width of a silhouette in pixels."""
    min_frames: int = Field(default=1, ge=1)
    """Sequences with fewer usable frames are dropped."""
    max_frames: int = Field(default=720, ge=1)
    """Of longer sequences only the first so many usable frames are kept."""
    form: Literal["auto", "aligned", "raw"] = "auto"
    """Whether images are aligned silhouettes or masks; auto decides by their size."""
    gate: Literal["auto", "live", "field"] = "auto"
    """Which masks show a person: those of the live path, or all that published figures rest on;
    auto means the latter for the field's datasets, the former for plain folders."""
    partial: bool = False
    """Views of the dataset may be missing altogether."""

    @property
    def mask_rule(self) -> MaskRule:
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
