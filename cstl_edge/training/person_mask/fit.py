"""Training of the small person network: loop, state that goes on where it ended, measure.

Every tensor is changed in steps relative to its own size, because the layers of BlazePose lite have
weights of very different sizes and no normalisation. What is exported is the moving average.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cstl_edge.arrays import Floats, Mask
from cstl_edge.config import StrictModel
from cstl_edge.opencv import import_cv2
from cstl_edge.training.person_mask.clips import FRAMED, LabelledCrop
from cstl_edge.training.person_mask.network import SIDE, PersonMaskNetwork, read_lite
from cstl_edge.training.person_mask.pictures import PictureMaker

cv2 = import_cv2()

log = logging.getLogger(__name__)

AVERAGE, AVERAGE_START = 0.98, 20  # of the weights; steps in which it is shorter
EDGE_WEIGHT, EDGE_PX = 2.0, 5  # of pixels near the outline; how near
LEAST_SIZE = 0.02  # root mean square below which a tensor counts as that large
CLIP = 5.0  # of the gradient's norm
SAVE_EVERY, LOG_EVERY = 20, 10  # steps


class FitSettings(StrictModel):
    """Settings of the training."""

    steps: int = 900
    batch: int = 16
    rate: float = 4e-3  # size of a step relative to the tensor's root mean square
    warm_up: int = 25  # steps
    slower_from: int = 250  # steps, from which the rate is `slower` of it
    slower: float = 0.6
    cool_down: int = 120  # the last steps, with a rate that goes to nothing
    walkers: int = 400  # synthetic people
    seed: int = 7

    def rate_at(self, step: int) -> float:
        """Return the rate of a step, from 0."""
        share = min(1.0, (step + 1) / self.warm_up)
        share *= 1.0 if step < self.slower_from else self.slower
        left = self.steps - step
        if left < self.cool_down:
            share *= max(0.02, 0.5 - 0.5 * np.cos(np.pi * left / self.cool_down))
        return float(self.rate * share)


@dataclass
class _Run:
    """Everything that a step changes."""

    network: PersonMaskNetwork
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor]
    step: int = 0


def fit(
    settings: FitSettings, pictures: PictureMaker, lite: Path, state: Path
) -> PersonMaskNetwork:
    """Train, or go on from `state`; return the network with averaged weights.

    Args:
        settings: Of the training.
        pictures: What it is shown.
        lite: `person_mask.onnx`, whose weights are the start.
        state: File of everything that is needed to go on.
    """
    torch.manual_seed(settings.seed)
    run = _begin(settings, lite)
    if state.exists():
        _restore(run, state)
        log.info("goes on from step %d", run.step)
    rng = np.random.default_rng([run.step, settings.seed])
    while run.step < settings.steps:
        for group in run.optimiser.param_groups:
            group["lr"] = settings.rate_at(run.step) * group["size"]
        loss = _step(run, *_batch(rng, pictures, settings.batch))
        if run.step % LOG_EVERY == 0:
            log.info("step %d: loss %.3f, CPU %.0f s", run.step, loss, time.process_time())
        if run.step % SAVE_EVERY == 0 or run.step == settings.steps:
            _save(run, state)
    network = PersonMaskNetwork()
    network.load_state_dict(run.average)
    return network.eval()


def _begin(settings: FitSettings, lite: Path) -> _Run:
    network = PersonMaskNetwork()
    network.start()
    read_lite(network, lite)
    for part in (network.stem, network.stem_filter, network.stem_mix):
        part.requires_grad_(requires_grad=False)  # edges look the same at any scale
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups = []
    for tensor in network.parameters():
        if tensor.requires_grad:
            size = float(tensor.detach().square().mean().sqrt())
            groups.append({"params": [tensor], "size": max(size, LEAST_SIZE)})
    optimiser = torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98), weight_decay=0)
    return _Run(network, optimiser, {k: v.clone() for k, v in network.state_dict().items()})


def _batch(
    rng: np.random.Generator, pictures: PictureMaker, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return crops [m, 3, SIDE, SIDE], masks [m, SIDE, SIDE] and presence [m]."""
    samples = [pictures.draw(rng) for _ in range(count)]
    masks = torch.from_numpy(np.stack([sample.mask for sample in samples]))
    presence = torch.tensor([float(sample.presence > 0.5) for sample in samples])
    return as_tensor(np.stack([sample.image for sample in samples])), masks, presence


def as_tensor(crops: Mask) -> Tensor:
    """Return crops uint8 BGR [m, h, w, 3] as the network takes them: RGB, 0..1, [m, 3, h, w]."""
    planes = np.ascontiguousarray(crops[..., ::-1].transpose(0, 3, 1, 2), np.float32) / 255
    return torch.from_numpy(planes).contiguous(memory_format=torch.channels_last)


def _step(run: _Run, crops: Tensor, masks: Tensor, presence: Tensor) -> float:
    """Change the weights once; return the loss."""
    logits, present = run.network(crops)
    loss = mask_loss(logits[:, 0], masks)
    loss = loss + 0.1 * functional.binary_cross_entropy_with_logits(present[:, 0], presence)
    run.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    changed = [p for group in run.optimiser.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(changed, CLIP)
    run.optimiser.step()
    run.step += 1
    decay = min(AVERAGE, (run.step + 1) / (run.step + AVERAGE_START))
    with torch.no_grad():
        for name, tensor in run.network.state_dict().items():
            run.average[name].lerp_(tensor, 1 - decay)
    return float(loss.detach())


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return cross-entropy, heavier near the outline, and the Dice loss where somebody is.

    logits, masks: [m, h, w], the masks 0..1
    """
    each = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    planes, reach = masks[:, None], EDGE_PX // 2
    most = functional.max_pool2d(planes, EDGE_PX, 1, reach)
    least = -functional.max_pool2d(-planes, EDGE_PX, 1, reach)
    cross_entropy = (each * (1 + EDGE_WEIGHT * (most - least)[:, 0])).mean()
    share, somebody = torch.sigmoid(logits), (masks.sum((1, 2)) > 30).float()
    both, sum_of_all = (share * masks).sum((1, 2)), share.sum((1, 2)) + masks.sum((1, 2))
    dice = (1 - (2 * both + 1) / (sum_of_all + 1)) * somebody
    return 2 * cross_entropy + 0.5 * dice.sum() / somebody.sum().clamp(min=1)


def held_out_ious(network: PersonMaskNetwork, crops: Sequence[LabelledCrop]) -> Floats:
    """Return intersection over union with the teacher's mask of every crop that is held out."""
    return np.array(list(_ious(network, [c for c in crops if c.held_out])), np.float32)


def _ious(network: PersonMaskNetwork, crops: Sequence[LabelledCrop]) -> Iterator[float]:
    for crop in crops:
        x, y, w, h = crop.box
        zoom = SIDE / (FRAMED * max(w, h))
        shift = SIDE / 2 - zoom * (x + w / 2), SIDE / 2 - zoom * (y + h / 2)
        matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]], np.float32)
        image, mask = (cv2.warpAffine(a, matrix, (SIDE, SIDE)) for a in (crop.image, crop.mask))
        with torch.no_grad():
            logits, _ = network(as_tensor(image[None]))
        seen, truth = logits[0, 0].numpy() > 0, mask > 127
        yield float((seen & truth).sum() / max((seen | truth).sum(), 1))


def _save(run: _Run, state: Path) -> None:
    whole = {
        "network": run.network.state_dict(), "optimiser": run.optimiser.state_dict(),
        "average": run.average, "step": run.step,
    }  # fmt: skip
    partial = state.with_suffix(".part")
    torch.save(whole, partial)
    partial.replace(state)


def _restore(run: _Run, state: Path) -> None:
    whole = torch.load(state, weights_only=True)
    run.network.load_state_dict(whole["network"])
    run.optimiser.load_state_dict(whole["optimiser"])
    run.average, run.step = whole["average"], whole["step"]
