"""Configuration of a training run: the sections of a file in train/configs/."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cstl_edge.config import StrictModel
from cstl_edge.data.augment import Augmentation
from cstl_edge.data.sampling import FRAME_RULES
from cstl_edge.data.walkers_dataset import WalkersSettings
from cstl_edge.model import CstlConfig


class SamplerSettings(StrictModel):
    """Drawing of a batch."""

    people: int = Field(default=8, ge=2)  # people in a batch (P)
    sequences: int = Field(default=8, ge=2)  # sequences of each of them (K)
    frames: int = Field(default=30, ge=1)  # frames of each sequence
    rule: str = "paper"
    """Choice of frames: `paper` (30 of 40 consecutive ones, in order), `released` (consecutive
    ones), or `opengait` (as the paper, short sequences repeated in a loop)."""

    @field_validator("rule")
    @classmethod
    def _known(cls, rule: str) -> str:
        if rule not in FRAME_RULES:
            raise ValueError(f"expected one of {', '.join(FRAME_RULES)}")
        return rule


class OptimiserSettings(StrictModel):
    """Adam, its learning rate, and the weights of the losses."""

    rate: float = Field(default=1e-4, gt=0)  # learning rate after the warm-up
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """Schedule of the rate: `cosine` falls over the whole budget, `step` at `steps`."""
    cosine_iterations: int | None = Field(default=None, ge=1)
    """Iterations over which `cosine` falls, fixed beforehand: the run may be stopped, resumed and
    given another budget, and the rates stay those of one run. None means the budget."""
    steps: tuple[int, ...] = ()  # iterations at which the rate of `step` falls to a tenth
    warm_up: int = Field(default=0, ge=0)  # iterations over which the rate rises from zero
    final_rate: float = Field(default=0.01, ge=0, le=1)  # end of the cosine, as a share of `rate`
    clip_norm: float = Field(default=0.0, ge=0)  # largest norm of the gradient; 0 does not clip
    margin: float = Field(default=0.2, gt=0)  # of the triplet loss, in units of the embedding
    triplet_weight: float = Field(default=1.0, ge=0)  # weight of the triplet loss; the paper's is 1
    joint_weight: float = Field(default=0.0, ge=0)
    """Weight of the triplet loss of the parts' mean distance; the paper has none."""
    class_weight: float = Field(default=1.0, ge=0)
    """Weight of the cross-entropy of Eq. 8; the paper's is 1. With 0 there is no such class head,
    and the scores of SSFL learn nothing."""
    embedding_class_weight: float = Field(default=0.0, ge=0)
    """Weight of a cross-entropy on the embedding (batch norm, cosine to each person times 16); the
    paper has none. 0 is off."""
    class_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of every label that is spread over all people, in both cross-entropies."""
    self_pairs: bool = False  # count a sequence as its own positive, as the released code does
    average_decay: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the moving average of the weights, which is saved in their place; 0 is off."""
    frozen_layers: int = Field(default=0, ge=0, le=4)
    """Number of first convolutions of the trunk that keep their initial weights."""

    @model_validator(mode="after")
    def _consistent(self) -> OptimiserSettings:
        if bool(self.steps) != (self.schedule == "step"):
            raise ValueError("optimiser.steps belong to optimiser.schedule step, and it to them")
        if self.cosine_iterations and self.schedule != "cosine":
            raise ValueError("optimiser.cosine_iterations belong to optimiser.schedule cosine")
        return self


class RunSettings(StrictModel):
    """Budget, arithmetic and files of a run."""

    iterations: int | None = Field(default=None, ge=1)  # iterations after which the run ends
    minutes: float | None = Field(default=None, gt=0)
    """Minutes of training after which the run ends; with `iterations` too, whichever is first."""
    seed: int = Field(default=0, ge=0)  # seed of the first weights and of every batch
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the network; `auto` is the GPU that torch finds, else the processor."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Arithmetic of the forward pass; weights and losses stay float32. The gradients of float16 are
    scaled, by a factor that falls when they overflow: such an iteration changes no weight. On a
    processor float16 is slow (benchmarks/training.py); bfloat16 is ten times slower than float32
    where only AVX2 is there. `auto` is bfloat16 where the processor or GPU computes it, else
    float32."""
    channels_last: bool = False  # memory order of the trunk
    compile: bool = False
    """Compile the trunk by torch.compile, at the first iteration; it needs a C++ compiler."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose mean gradient is one iteration. Each is P×K and a batch of its own to the
    triplet loss and the batch norms: no triplet spans two of them."""
    threads: int = Field(default=0, ge=0)  # threads of torch; 0 leaves torch's default
    checkpoint_minutes: float = Field(default=5.0, gt=0)  # minutes between two checkpoints
    log_every: int = Field(default=10, ge=1)  # iterations between two lines of the log
    tensorboard: bool = False  # write the log for TensorBoard too, into the run's folder

    @model_validator(mode="after")
    def _bounded(self) -> RunSettings:
        if self.iterations is None and self.minutes is None:
            raise ValueError("expected run.iterations or run.minutes, got neither")
        return self


class DataSettings(StrictModel):
    """Training people of a prepared dataset."""

    split: Literal["auto", "all", "field", "first-5153"] = "auto"
    """Training people: `field` (CASIA-B's first 74, OU-MVLP's odd), `first-5153` (OU-MVLP in the
    paper's words), `all`; `auto` is `field` where the dataset has a split, else `all`."""
    without: tuple[int, ...] = ()  # people left out; the released code leaves out 5 of CASIA-B


class EvaluateSettings(StrictModel):
    """Validation during training: rank-1 across views; the best weights so far are saved apart.

    Weights selected by a metric look better in it than they are: report the last ones, or select on
    people that nothing is reported on.
    """

    every: int | None = Field(default=None, ge=1)  # iterations between two evaluations
    minutes: float | None = Field(default=None, gt=0)  # minutes of training between two evaluations
    walkers: WalkersSettings | None = None
    """Synthetic people to evaluate on; None means the test people of the dataset."""
    people: int | None = Field(default=None, ge=2)
    """Number of the first of these people to evaluate on; None means all."""

    @model_validator(mode="after")
    def _timed(self) -> EvaluateSettings:
        if (self.every is None) == (self.minutes is None):
            raise ValueError("expected either evaluate.every or evaluate.minutes")
        return self


class TrainConfig(StrictModel):
    """Configuration of a whole training run."""

    model: dict[str, Any] = Field(default_factory=dict)
    """Network: fields of CstlConfig; `classes` follows from the data."""
    walkers: WalkersSettings | None = None
    """Synthetic people to train on; None when the data are given as shards."""
    data: DataSettings = DataSettings()
    sampler: SamplerSettings = SamplerSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    augment: Augmentation = Augmentation()
    evaluate: EvaluateSettings | None = None
    run: RunSettings

    @field_validator("model")
    @classmethod
    def _buildable(cls, model: dict[str, Any]) -> dict[str, Any]:
        if "classes" in model:
            raise ValueError("`classes` follows from the data; leave it out")
        if "class_head" in model:
            raise ValueError(
                "`class_head` follows from optimiser.class_weight and "
                "optimiser.embedding_class_weight; leave it out"
            )
        CstlConfig.from_dict(model)  # raises ValueError with what it expected
        return model

    @model_validator(mode="after")
    def _one_size(self) -> TrainConfig:
        size = CstlConfig.from_dict(self.model).size
        evaluated = self.evaluate.walkers if self.evaluate else None
        for name, walkers in (("walkers", self.walkers), ("evaluate.walkers", evaluated)):
            if walkers is not None and walkers.size != size:
                raise ValueError(
                    f"{name}.size is {list(walkers.size)}, model.size {list(size)}; make them equal"
                )
        if self.evaluate and self.walkers and not evaluated:
            raise ValueError(
                "evaluate needs evaluate.walkers where the training people are Walkers"
            )
        return self

    def network(self, classes: int) -> CstlConfig:
        """Return the configuration of the network, with the class heads that have a weight.

        Without SSFL there are no scores that the class head of Eq. 7 could supervise, hence none.

        classes: number of people
        """
        config = CstlConfig.from_dict(self.model)
        on_scores = config.salient and self.optimiser.class_weight > 0
        on_embedding = self.optimiser.embedding_class_weight > 0
        kind = "both" if on_scores and on_embedding else "scores" if on_scores else "embedding"
        count = classes if on_scores or on_embedding else 0
        return replace(config, classes=count, class_head=kind)
