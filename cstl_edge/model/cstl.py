"""CSTL, context-sensitive temporal feature learning for gait recognition.

The network is cut where time begins: `frame_features` sees single frames, `head` a window of their
features; `forward` is their composition. The form is the paper's, or with `variant` released the
one that its authors published (`released.py`). Letters: n sequences, s frames, m frames of any
sequences, h w pixels, c channels, p parts, d embedding dimensions.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cstl_edge.model.backbone import Backbone, part_pool
from cstl_edge.model.config import CstlConfig
from cstl_edge.model.released import LeakyAggregation, NormedLongTerm, NormedScores, ScoredContext
from cstl_edge.model.salient import ClassHead, EmbeddingClassHead, PartScores, recombine
from cstl_edge.model.temporal import (
    AdaptiveAggregation,
    LongTerm,
    Normed,
    PartLinear,
    ShortTerm,
    as_float32,
    max_over_frames,
    mean_over_frames,
    running_sums,
)


class TrainingOutputs(NamedTuple):
    """Inputs of the losses."""

    embedding: Tensor  # [n, p, d] float32
    logits: Tensor | None  # [n, p, classes] float32 (Eq. 7), or None without that class head
    embedding_logits: Tensor | None = None  # the same of the class head on the embedding
    features: Tensor | None = None  # [n, s, p, c], what the trunk gave: gradients into it


class Cstl(nn.Module):
    """The network of `config`.

    `lengths`, int32 [n] in 1..s, masks the end of shorter sequences exactly: each comes out as it
    would alone, whatever its padding holds. None means that every frame is valid.
    """

    def __init__(self, config: CstlConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CstlConfig()
        parts, channels, scales = config.parts, config.widths[-1], config.scales
        released = config.variant == "released"
        long = NormedLongTerm if released else LongTerm
        aggregation = LeakyAggregation if released else AdaptiveAggregation
        scores = NormedScores if released else PartScores
        self.feature_shape = (parts, channels)  # of one frame
        self.backbone = Backbone(config.widths, unshuffled=config.trunk == "unshuffled")
        self.short = ShortTerm(parts, channels) if "short" in scales else None
        self.long = long(parts, channels) if "long" in scales else None
        adaptive = config.aggregation == "adaptive"
        self.aggregation = aggregation(parts, channels, scales) if adaptive else None
        self.scores = scores(parts, channels, scales) if config.salient else None
        self.context = ScoredContext(parts, channels, scales) if released else None
        self.class_head, self.embedding_class_head = _class_heads(config)
        # 1/sqrt(d) keeps an embedding's norm near its input's root mean square, so that the margin
        # of the triplet loss (0.2) means something from the first step.
        gain = 1 / math.sqrt(config.embedding)
        blocks = 1 + config.salient + released  # of c channels: T, S, and the scored context
        self.embed = PartLinear(parts, blocks * channels, config.embedding, gain)

    def forward(
        self, silhouettes: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Turn silhouettes uint8 [n, s, h, w] into what `head` returns."""
        return self.head(self._sequences(silhouettes), lengths)

    def frame_features(self, silhouettes: Tensor) -> Tensor:
        """Turn silhouettes uint8 [m, h, w], 0..255, into part features [m, p, c] (P in Eq. 1)."""
        self._check_silhouettes(silhouettes, "m")
        height, width = self.config.map_size
        pooled = part_pool(self.backbone(silhouettes), (height // self.config.parts, width))
        return pooled.transpose(1, 2).reshape(-1, *self.feature_shape)

    def head(self, features: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Turn part features [n, s, p, c] into the embedding, float32 [n, p, d].

        With it come the salient frames, int32 [n, p] (the paper's x_b^k), or None without SSFL.
        """
        embedding, frames, _ = self._head(features, lengths)
        return embedding, frames

    def embedding_inputs(self, silhouettes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Turn silhouettes uint8 [n, s, h, w] into what the last matrices read, [n, p, inputs].

        Where these alone are trained (`training.adapt`), all before them is computed once.
        """
        joined, _, _ = self._blocks(self._sequences(silhouettes), lengths)
        return as_float32(joined.permute(2, 0, 1))

    def training_outputs(
        self, silhouettes: Tensor, lengths: Tensor | None = None
    ) -> TrainingOutputs:
        """Turn silhouettes uint8 [n, s, h, w] into what the losses read; safe in autocast."""
        features = as_float32(self._sequences(silhouettes))
        self._check_head(features, lengths)
        if lengths is not None and bool((lengths == features.shape[1]).all()):
            lengths = None  # full sequences need no masks
        embedding, _, logits = self._head(features, lengths)
        head = self.embedding_class_head
        second = None if head is None else head(embedding)
        return TrainingOutputs(embedding, logits, second, features)

    def fused(self) -> Cstl:
        """Return an equal network for inference: norms folded into the convs, no class head."""
        network = copy.deepcopy(self).eval()
        network.config = dataclasses.replace(self.config, classes=0)
        network.class_head = network.embedding_class_head = None
        for module in network.modules():
            if isinstance(module, Normed):
                module.fold_norms()
        return network

    def _sequences(self, silhouettes: Tensor) -> Tensor:
        self._check_silhouettes(silhouettes, "n, s")
        features = self.frame_features(silhouettes.reshape(-1, *self.config.size))
        return features.reshape(-1, silhouettes.shape[1], *self.feature_shape)  # [n, s, p, c]

    def _head(
        self, features: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        joined, frames, classes = self._blocks(features, lengths)
        return self._embedding(joined), frames, classes

    def _blocks(
        self, features: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the inputs of the last matrices [p, .., n], salient frames and class logits."""
        self._check_head(features, lengths)
        x, mask = _mask_padding(features, lengths)  # [p, c, n, s], [n, s]
        scales = self._scales(x, mask)
        summed = running_sums(scales)  # Eq. 2
        if self.aggregation is not None:
            temporal = self.aggregation(summed, mask)  # [p, c, n]
        else:
            over_frames = max_over_frames if self.config.aggregation == "max" else mean_over_frames
            temporal = over_frames(next(reversed(summed.values())), mask)
        if self.scores is None:
            return temporal, None, None
        scores = self.scores(scales, features.shape[1], mask)  # [p, n, s]
        if lengths is None:
            lengths = features.new_full(features.shape[:1], features.shape[1], dtype=torch.int32)
        salient, frames = recombine(features, scores, lengths)
        blocks, classes = [salient.permute(1, 2, 0), temporal], None  # [p, c, n] each
        if self.context is not None:
            context = self.context(scales, scores, mask)  # [p, c, n, 1]
            blocks.append(context[..., 0])
            classes = self.class_head.classify(context) if self.class_head is not None else None
        elif self.class_head is not None:
            classes = self.class_head(x, scores, mask)
        joined = torch.cat([block.to(temporal.dtype) for block in blocks], 1)
        return joined, frames, classes

    def _scales(self, x: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        scales: dict[str, Tensor] = {}
        if "frame" in self.config.scales:
            scales["frame"] = x
        if self.short is not None:
            scales["short"] = self.short(x, mask)
        if self.long is not None:
            scales["long"] = self.long(x, mask)
        return scales

    def _embedding(self, x: Tensor) -> Tensor:
        """[p, c, 2c or 3c, n] -> [n, p, d]; in float32 under autocast too, at next to no cost."""
        with torch.autocast(x.device.type, enabled=False):
            y = self.embed.weight @ x.to(self.embed.weight.dtype)  # [p, d, n]
        return as_float32(y.permute(2, 0, 1))

    def _check_silhouettes(self, silhouettes: Tensor, leading: str) -> None:
        if _is_graph():
            return
        (height, width), ndim = self.config.size, 2 + len(leading.split(", "))
        fits = silhouettes.ndim == ndim and tuple(silhouettes.shape[-2:]) == (height, width)
        if not fits or silhouettes.dtype != torch.uint8:
            raise ValueError(
                f"expected silhouettes uint8 [{leading}, {height}, {width}], "
                f"got {silhouettes.dtype} {list(silhouettes.shape)}"
            )

    def _check_head(self, features: Tensor, lengths: Tensor | None) -> None:
        if _is_graph():
            return
        parts, channels = self.feature_shape
        if features.ndim != 4 or features.shape[2:] != (parts, channels) or features.shape[1] < 1:
            raise ValueError(
                f"expected features [n, s >= 1, {parts}, {channels}], got {list(features.shape)}"
            )
        if lengths is None:
            return
        n, s = features.shape[:2]
        if lengths.shape != (n,) or lengths.dtype != torch.int32:
            raise ValueError(
                f"expected lengths int32 [{n}], got {lengths.dtype} {list(lengths.shape)}"
            )
        if bool(((lengths < 1) | (lengths > s)).any()):
            raise ValueError(f"lengths must lie in 1..{s}, got {lengths.tolist()}")


def _class_heads(config: CstlConfig) -> tuple[ClassHead | None, EmbeddingClassHead | None]:
    """Return the class heads of the training: on the scores' features, and on the embedding."""
    parts, classes, kind = config.parts, config.classes, config.class_head
    scores = embedding = None
    if classes and kind != "embedding":
        shared = config.variant == "released"
        scores = ClassHead(parts, config.widths[-1], classes, shared=shared)
    if classes and kind != "scores":
        embedding = EmbeddingClassHead(parts, config.embedding, classes)
    return scores, embedding


def _mask_padding(features: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Zero the padding, whatever it held (NaN times zero would be NaN), and put parts first."""
    x = features.permute(2, 3, 0, 1)  # [p, c, n, s]
    if lengths is None:
        return x.contiguous(), None
    frames = torch.arange(features.shape[1], dtype=torch.int32, device=features.device)
    valid = frames < lengths.unsqueeze(1)  # [n, s]
    return torch.where(valid, x, 0.0), valid.to(features.dtype)


def _is_graph() -> bool:
    """Tell whether a graph is being recorded, which has no place for checks of values."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return bool(tracing) or torch.compiler.is_compiling()
