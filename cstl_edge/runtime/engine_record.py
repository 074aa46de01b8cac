"""The record beside a plan: what the engine was built from and for. `provenance` judges it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from cstl_edge.runtime.manifest import Sha256

Graph = Literal["frames", "head", "full"]
Compatibility = Literal["none", "same", "ampere"]
Dims = Annotated[tuple[int, ...], pydantic.Strict(False)]


class _Record(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", strict=True)


class Range(_Record):
    """Sizes that one input of a profile may take."""

    min: Dims
    opt: Dims
    max: Dims


Profile = dict[str, Range]
"""By input."""
INPUTS = {
    "frames": {"silhouettes": 3},
    "head": {"features": 4, "lengths": 1},
    "full": {"silhouettes": 4, "lengths": 1},
}
"""Axes of every input by graph."""


class Plugin(_Record):
    """The plugin library whose kernel is in the plan."""

    name: str
    version: str
    namespace: str
    sha256: Sha256


class Built(_Record):
    """What stands beside a plan."""

    format: Literal[1]
    graph: Graph
    plan_sha256: Sha256
    model: str
    weights_sha256: Sha256
    onnx: str
    onnx_sha256: Sha256
    precision: str
    library: Literal["tensorrt", "tensorrt_rtx"]
    version: str
    """Of the library, in full: a plan is for exactly one."""
    sm: int
    """Compute capability as one number, 87 for 8.7."""
    gpu: str | None
    """Name of the GPU; None when it was built ahead of time, without one."""
    cuda: str | None
    compatibility: Compatibility
    plugin: Plugin | None
    """None when the graph's own function body serves."""
    profiles: Annotated[list[Profile], pydantic.Field(min_length=1, max_length=16)]
    window: Annotated[int, pydantic.Field(ge=1)]
    """Frames of a live window: what CUDA graphs are captured for."""
    options: dict[str, Any] = {}
    """Words of the command line that built it, by option."""
    audit: dict[str, Any] = {}
    parity: dict[str, Any] | None = None
    build_s: float = 0.0
    created_with: dict[str, Any] = {}
    created_utc: str = ""

    @pydantic.model_validator(mode="after")
    def _profiles_fit(self) -> Built:
        """Refuse profiles of other inputs than the graph's, or with sizes that cannot be."""
        expected = INPUTS[self.graph]
        for profile in self.profiles:
            axes = {name: {len(r.min), len(r.opt), len(r.max)} for name, r in profile.items()}
            if axes != {name: {count} for name, count in expected.items()}:
                raise ValueError(f"expected profiles of {', '.join(expected)}")
            for sizes in profile.values():
                triples = zip(sizes.min, sizes.opt, sizes.max, strict=True)
                if not all(1 <= low <= best <= high for low, best, high in triples):
                    raise ValueError("expected min <= opt <= max")
        return self
