"""Training of the small person network: it learns, goes on where it ended, labels clips."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch

from cstl_edge.runtime.masks.manifest import SHIPPED
from cstl_edge.training.person_mask.clips import LabelledCrop, hold_out, label_clips
from cstl_edge.training.person_mask.fit import FitSettings, fit, held_out_ious, mask_loss
from cstl_edge.training.person_mask.pictures import Sample

LITE = SHIPPED.parent / "person_mask.onnx"
SETTINGS = FitSettings(steps=3, batch=2, warm_up=1, cool_down=1)


class Squares:
    """Pictures of a white square on black."""

    def draw(self, rng: np.random.Generator) -> Sample:
        image, mask = np.zeros((128, 128, 3), np.uint8), np.zeros((128, 128), np.float32)
        top = int(rng.integers(20, 40))
        mask[top : top + 60, 40:80] = 1
        image[mask > 0] = 255
        return Sample(image, mask, 1.0)


def test_the_rate_warms_up_and_goes_to_nothing() -> None:
    settings = FitSettings(steps=400, warm_up=10, slower_from=100, slower=0.5, cool_down=50)
    rates = [settings.rate_at(step) for step in range(400)]
    assert rates[0] == pytest.approx(0.1 * settings.rate)
    assert rates[50] == settings.rate
    assert rates[200] == pytest.approx(0.5 * settings.rate)
    assert rates[-1] < 0.02 * settings.rate
    assert all(b <= a for a, b in itertools.pairwise(rates[340:]))


def test_the_loss_is_least_for_the_right_mask() -> None:
    masks = torch.zeros(2, 32, 32)
    masks[:, 8:24, 10:20] = 1
    right, wrong = 8 * (2 * masks - 1), -8 * (2 * masks - 1)
    shifted = torch.roll(right, 2, dims=2)
    losses = [float(mask_loss(logits, masks)) for logits in (right, shifted, wrong)]
    assert losses[0] < 0.01 < losses[1] < losses[2]


def test_a_training_that_ended_early_goes_on(tmp_path) -> None:
    state = tmp_path / "state.pt"
    fit(SETTINGS, Squares(), LITE, state)
    before = torch.load(state, weights_only=True)
    longer = SETTINGS.model_copy(update={"steps": 4})
    network = fit(longer, Squares(), LITE, state)
    after = torch.load(state, weights_only=True)
    assert (before["step"], after["step"]) == (3, 4)
    assert not torch.equal(before["network"]["mask.weight"], after["network"]["mask.weight"])
    # the first layers see edges at any scale and stay
    for name in ("stem.weight", "stem_mix.weight"):
        assert torch.equal(before["network"][name], network.state_dict()[name])


def test_clips_are_labelled_by_the_teacher_and_a_part_is_held_out(tmp_path) -> None:
    class Teacher:
        side, provider = 128, "test"

        def __call__(self, crops):
            logits = np.full((len(crops), 128, 128), -5, np.float32)
            logits[:, 14:114, 40:90] = 5
            return logits, np.ones(len(crops), np.float32)

    crops = list(label_clips([LITE.parent / "walk.mp4"], Teacher(), every=110))
    assert crops
    for crop in crops:
        x, y, w, h = (round(v) for v in crop.box)
        assert crop.image.shape == (384, 384, 3)
        inside = crop.mask[y + 4 : y + h - 4, x + 4 : x + w - 4]
        assert inside.min() > 200
        assert crop.mask.sum() < 1.3 * 255 * w * h
    assert 0 < sum(crop.held_out for crop in crops) < len(crops)


@pytest.mark.parametrize(
    ("last_s", "held_out"),
    [(31.0, [False, False, True, True]), (1.9, [False, True, True, True])],
    ids=["every 15 s", "a clip shorter than a block is one"],
)
def test_the_last_share_of_every_block_of_a_clip_is_held_out(last_s, held_out) -> None:
    image, mask = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    times = (1.0, 16.0, 14.0, 29.5) if last_s > 15 else (1.0, 1.5, 1.6, 1.9)
    crops = [LabelledCrop(image, mask, (0, 0, 4, 8), 1.0, time_s) for time_s in times]
    assert [crop.held_out for crop in hold_out(crops, last_s)] == held_out


def test_the_measure_is_one_for_the_same_mask_and_small_for_another() -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    mask = np.zeros((256, 256), np.uint8)
    cv2.rectangle(mask, (100, 60), (150, 190), 255, cv2.FILLED)
    crop = LabelledCrop(image, mask, (100, 60, 50, 130), 1.0, 14.5, held_out=True)

    class Middle(torch.nn.Module):
        def forward(self, crops):
            logits = torch.full((1, 1, 128, 128), -4.0)
            logits[..., 13:115, 44:84] = 4.0
            return logits, torch.zeros(1, 1)

    (iou,) = held_out_ious(Middle(), [crop])
    assert iou > 0.9
