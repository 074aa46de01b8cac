"""Configuration of the network, validated."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCALES = ("frame", "short", "long")  # the temporal scales, in the order of Eq. 2
AGGREGATIONS = ("adaptive", "max", "mean")
VARIANTS = ("paper", "released")
TRUNKS = ("paper", "unshuffled")
CLASS_HEADS = ("scores", "embedding", "both")


@dataclass(frozen=True)
class CstlConfig:
    """Everything that shapes the network. The defaults are the paper's for CASIA-B.

    OU-MVLP: widths (64, 128, 256, 256), embedding 512. Baseline of Table 3: scales ("frame",),
    aggregation "max", salient False; with all scales it is "+ MSTE".
    """

    size: tuple[int, int] = (64, 44)  # height and width of a silhouette, pixels, both even
    widths: tuple[int, int, int, int] = (32, 64, 128, 128)  # channels after each convolution
    trunk: str = "paper"
    """Form of the trunk: the paper's, or `unshuffled`: every 2x2 pixels become four channels first,
    so that the maps have half the height and width, and a frame costs a third."""
    parts: int = 32  # horizontal bands; divides the rows of a feature map
    embedding: int = 256  # dimensions of a part's embedding
    scales: tuple[str, ...] = SCALES  # temporal scales in use, a subset of frame, short, long
    aggregation: str = "adaptive"  # how frames become T: ATA, or max or mean of the scales' sum
    salient: bool = True  # whether SSFL adds S to the embedding
    classes: int = 0  # people of the class head, for training; 0 leaves it out
    class_head: str = "scores"
    """What is classified in training: features weighted by the scores (Eq. 7), or the embedding."""
    variant: str = "paper"  # the paper's form, or the one its authors released (`released.py`)

    def __post_init__(self) -> None:
        """Turn lists into tuples, sort the scales; raise ValueError on what cannot be."""
        for field in ("size", "widths", "scales"):
            if isinstance(getattr(self, field), list):
                object.__setattr__(self, field, tuple(getattr(self, field)))
        self._check_numbers()
        self._check_scales()
        if self.aggregation not in AGGREGATIONS:
            raise ValueError(f"aggregation must be one of {AGGREGATIONS}, got {self.aggregation!r}")
        if not isinstance(self.salient, bool):
            raise ValueError(f"salient must be true or false, got {self.salient!r}")
        self._check_class_head()
        self._check_variant()

    def _check_scales(self) -> None:
        unknown = sorted(set(self.scales) - set(SCALES))
        if unknown or not self.scales or len(set(self.scales)) < len(self.scales):
            raise ValueError(f"scales must be some of {SCALES}, each once, got {self.scales}")
        object.__setattr__(self, "scales", tuple(name for name in SCALES if name in self.scales))

    def _check_class_head(self) -> None:
        if self.class_head not in CLASS_HEADS:
            raise ValueError(f"class_head must be one of {CLASS_HEADS}, got {self.class_head!r}")
        if self.classes and not self.salient and self.class_head != "embedding":
            raise ValueError(
                f"classes {self.classes} contradicts salient False: the class head needs the "
                "scores of SSFL (Eq. 7). Set classes to 0, salient to true or class_head to "
                "'embedding'"
            )
        if not self.classes:  # no class head, so its kind makes no other network
            object.__setattr__(self, "class_head", "scores")

    def _check_variant(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be one of {VARIANTS}, got {self.variant!r}")
        whole = {"scales": SCALES, "aggregation": "adaptive", "salient": True}
        for field, value in whole.items():
            if self.variant == "released" and getattr(self, field) != value:
                raise ValueError(
                    f"variant released contradicts {field} {getattr(self, field)}: the released "
                    f"network is whole, with {field} {value}. Ablations are of variant paper"
                )

    def _check_numbers(self) -> None:
        for field, count in (("size", 2), ("widths", 4)):
            values = getattr(self, field)
            counted = isinstance(values, tuple) and len(values) == count
            if not counted or not all(map(_positive, values)):
                raise ValueError(f"{field} must be {count} positive integers, got {values!r}")
        for field in ("parts", "embedding"):
            if not _positive(getattr(self, field)):
                raise ValueError(
                    f"{field} must be a positive integer, got {getattr(self, field)!r}"
                )
        if self.classes != 0 and not _positive(self.classes):
            raise ValueError(f"classes must be 0 or a positive integer, got {self.classes!r}")
        if self.trunk not in TRUNKS:
            raise ValueError(f"trunk must be one of {TRUNKS}, got {self.trunk!r}")
        if any(side % self.shrink for side in self.size):
            raise ValueError(
                f"size must be divisible by {self.shrink} both ways, for so much smaller are the "
                f"feature maps of the {self.trunk} trunk; got {self.size}"
            )
        rows = self.map_size[0]
        if rows % self.parts:
            fitting = [k for k in range(1, rows + 1) if rows % k == 0]
            raise ValueError(
                f"parts must divide the {rows} rows of a feature map (height {self.size[0]} by "
                f"{self.shrink}), got {self.parts}; possible: {fitting}"
            )

    @property
    def shrink(self) -> int:
        """Height of a silhouette by that of a feature map."""
        return 4 if self.trunk == "unshuffled" else 2

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of a feature map."""
        return self.size[0] // self.shrink, self.size[1] // self.shrink

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings, fit for JSON and YAML.

        The paper's form goes without saying, so that its files are what they were before there was
        another.
        """
        plain = dataclasses.asdict(self)
        for field, usual in (("variant", "paper"), ("trunk", "paper"), ("class_head", "scores")):
            if plain[field] == usual:
                del plain[field]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CstlConfig:
        """Build from what `to_dict` gave; missing keys take defaults, unknown ones ValueError."""
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}"
                raise ValueError(f"unknown key {key!r} in the model configuration. {hint}")
        return cls(**values)


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
