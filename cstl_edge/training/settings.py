"""What a training run is, as strict configuration: the sections of a file in train/configs/."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cstl_edge.data.augment import Augmentation
from cstl_edge.data.sampling import FRAME_RULES
from cstl_edge.data.walkers_shards import WalkersSettings
from cstl_edge.model import CstlConfig


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SamplerSettings(_Section):
    """How a batch is drawn."""

    people: int = Field(default=8, ge=2)
    """People in a batch (P)."""
    sequences: int = Field(default=8, ge=2)
    """Sequences of each of them (K)."""
    frames: int = Field(default=30, ge=1)
    """Frames of each sequence."""
    rule: str = "paper"
    """How frames are chosen: `paper` (30 of 40 neighbours, in order) or `released` (neighbours)."""

    @field_validator("rule")
    @classmethod
    def _known(cls, rule: str) -> str:
        if rule not in FRAME_RULES:
            raise ValueError(f"expected one of {', '.join(FRAME_RULES)}")
        return rule


class OptimiserSettings(_Section):
    """Adam and what it minimises."""

    rate: float = Field(default=1e-4, gt=0)
    """Learning rate after the warm-up."""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """Course of the rate: `cosine` falls over all of the budget, `step` at `steps`."""
    steps: tuple[int, ...] = ()
    """Iterations at which the rate of `step` falls to a tenth."""
    warm_up: int = Field(default=0, ge=0)
    """Iterations over which the rate rises from zero."""
    final_rate: float = Field(default=0.01, ge=0, le=1)
    """Where the cosine ends, as a share of `rate`."""
    clip_norm: float = Field(default=0.0, ge=0)
    """Largest norm of the gradient; 0 does not clip."""
    margin: float = Field(default=0.2, gt=0)
    """Margin of the triplet loss, in units of the embedding."""
    triplet_weight: float = Field(default=1.0, ge=0)
    """Weight of the triplet loss; the paper's is 1."""
    class_weight: float = Field(default=1.0, ge=0)
    """Weight of the cross-entropy; the paper's is 1."""
    self_pairs: bool = False
    """Count a sequence as its own positive, as the released code does."""
    average_decay: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the moving average of the weights, which is then what is saved; 0 is off."""

    frozen_layers: int = Field(default=0, ge=0, le=4)
    """First convolutions of the trunk that keep the weights they start from."""

    @model_validator(mode="after")
    def _consistent(self) -> OptimiserSettings:
        if bool(self.steps) != (self.schedule == "step"):
            raise ValueError("optimiser.steps belong to optimiser.schedule step, and it to them")
        return self


class RunSettings(_Section):
    """Budget, arithmetic and files of a run."""

    iterations: int | None = Field(default=None, ge=1)
    """Iterations after which the run ends."""
    minutes: float | None = Field(default=None, gt=0)
    """Minutes of training after which the run ends; with `iterations` too, whichever is first."""
    seed: int = Field(default=0, ge=0)
    """Seed of the first weights and of every batch."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the forward pass; weights and losses stay float32."""
    channels_last: bool = False
    """Memory order of the trunk."""
    threads: int = Field(default=0, ge=0)
    """Threads of torch; 0 leaves them as they are."""
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    """Minutes between two checkpoints."""
    log_every: int = Field(default=10, ge=1)
    """Iterations between two lines of the log."""

    @model_validator(mode="after")
    def _bounded(self) -> RunSettings:
        if self.iterations is None and self.minutes is None:
            raise ValueError("expected run.iterations or run.minutes, got neither")
        return self


class TrainConfig(_Section):
    """A whole training run."""

    model: dict[str, Any] = Field(default_factory=dict)
    """The network: fields of CstlConfig; `classes` follows from the data."""
    walkers: WalkersSettings | None = None
    """Synthetic people to train on; None when the data are given as shards."""
    sampler: SamplerSettings = SamplerSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    augment: Augmentation = Augmentation()
    run: RunSettings

    @field_validator("model")
    @classmethod
    def _buildable(cls, model: dict[str, Any]) -> dict[str, Any]:
        if "classes" in model:
            raise ValueError("`classes` follows from the data; leave it out")
        CstlConfig.from_dict(model)  # raises ValueError with what it expected
        return model

    def network(self, classes: int) -> CstlConfig:
        """Return the configuration of the network for data of so many people.

        Without SSFL there is nothing that a class head could supervise, hence none.
        """
        config = CstlConfig.from_dict(self.model)
        return replace(config, classes=classes if config.salient else 0)
