"""The exporter's reports as they stand in manifests and engine records: typed dictionaries.

They cross rooms: a check measures, the manifest keeps, the terminal and the benchmark suite show.
The keys are persisted and keep their spelling (`found` is the precision that was evaluated,
`judged_on` what it was evaluated on).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from typing_extensions import NotRequired


class FlipsReport(TypedDict):
    """Salient frames that differ."""

    compared: int
    ties: int
    wrong: int


class CosineReport(TypedDict):
    """Cosines of the parts' embeddings with float32's."""

    mean: float
    """Of all parts."""
    smallest: float
    """Of the parts whose frame is the same on both sides, as in what follows."""
    smallest_by_part: list[float]


class Rank1Loss(TypedDict):
    """Rank-1 across views compared search by search."""

    compared: int
    only_float32: int
    only_found: int
    points: float
    standard_error_points: float
    at_most_points: float
    """What the loss on more people is below, with 95 % certainty."""


class Rank1Report(TypedDict):
    """What a precision costs in rank-1."""

    float32: dict[str, float]
    """Rank-1 0..1, mean over conditions, `same_view` and `cross_view`; `found` alike."""
    found: dict[str, float]
    lost: Rank1Loss


class DecisionsReport(TypedDict):
    """What a precision changes in the answers of searches at a threshold."""

    compared: int
    changed: int
    named: int
    """Searches that float32 answers with a name."""
    threshold: float
    fpir: float


class HalfRuleReport(TypedDict):
    """The fp16 graphs beside PyTorch's own float16."""

    max_abs_error: float
    torch_fp16_max_abs_error: float
    allowed: float
    parts_compared: int
    parts_with_other_frames: int


class GateReport(TypedDict):
    """What an accuracy gate measured (manifest: `precisions.<name>.judged.<who>`)."""

    limits: dict[str, float]
    """As `accuracy_gate.GateLimits`."""
    salient_frames: NotRequired[FlipsReport]
    """Absent without SSFL."""
    cosine: CosineReport
    max_abs_error: float
    max_abs_value: float
    rank1: Rank1Report
    decisions: DecisionsReport
    rule: NotRequired[dict[str, HalfRuleReport]]
    """Of fp16, by graphs."""
    window_frames: NotRequired[int]
    """Of the incremental head."""


class IslandReport(TypedDict):
    """What the tensors of one float32 island span on the calibration data."""

    graph: str
    island: str
    reason: str
    tensors: int
    smallest: float
    largest: float


class CalibrationReport(TypedDict):
    """What a precision was calibrated and evaluated on (manifest: `evidence`)."""

    calibrated_on: NotRequired[str]
    calibration_frames: NotRequired[int]
    judged_on: str
    sequences: int


class SimplifyReport(TypedDict):
    """What was done to a graph after tracing (manifest: `simplified.<file>`)."""

    tool: str | None
    reason: NotRequired[str]
    """Why it stayed as it was traced."""
    nodes: NotRequired[dict[str, int]]
    """`before` and `after`."""
    float16_weights: NotRequired[int]


class EngineAudit(TypedDict):
    """What a plan holds."""

    part_gather: str
    """`plugin`, `function body` or `none in this graph`."""
    network: dict[str, dict[str, int]]
    """Layers of the parsed network, by kind and type of their output."""
    engine: NotRequired[dict[str, Any]]
    """Layers of the built engine; TensorRT-RTX cannot list them without a GPU."""


class BuildReport(TypedDict):
    """What the child process says of a plan that it built."""

    audit: EngineAudit
    plugin_sha256: str | None
    version: str
    gpu: dict[str, Any] | None
    """`name`, `sm` and `cuda`; None where it was built ahead of time."""


class EngineParityReport(TypedDict):
    """An engine's outputs beside ONNX Runtime's in float32."""

    against: str
    seed: int
    min_cosine: float
    max_abs_error: float
    flips: int
    choices: int
    limits: dict[str, float]
