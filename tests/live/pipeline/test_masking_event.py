"""Event `scene`: a camera's segmenter says when it no longer masks everybody, and when it does."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from cstl_edge.live.pipeline.options import PipelineOptions, RunSummary
from cstl_edge.live.pipeline.perception import FrameResult
from cstl_edge.live.pipeline.recognition import MASKED_AGAIN, RecognitionStage
from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.sources.base import Frame
from cstl_edge.runtime.base import EncoderInfo

INFO = EncoderInfo("stand-in", "cpu", "float32", 1, "s", "0" * 64, (64, 44), 16, 44, 88)
FEW = "a crop takes 12 ms here: not everybody is masked"


def test_who_gets_the_better_mask_is_an_event_at_its_changes() -> None:
    encoder = SimpleNamespace(info=INFO)
    stage = RecognitionStage("a", encoder, None, PipelineOptions(), RunSummary(), keep=False)
    image = np.zeros((4, 4, 3), np.uint8)
    ready, moved = SceneState.READY, SceneState.DISTURBED
    scenes = [(ready, None), (ready, FEW), (ready, FEW), (moved, FEW), (ready, FEW), (ready, None)]
    events = []
    for i, (scene, masking) in enumerate(scenes):
        result = FrameResult(Frame(i, image, i / 25), 0.0, scene, masking=masking)
        events.append([(e.event, e.state, e.detail) for e in stage.process(result)])
    assert events[0] == events[2] == []
    assert events[1] == events[4] == [("scene", "ready", FEW)]
    assert events[3] == [("scene", "disturbed", None)]
    assert events[5] == [("scene", "ready", MASKED_AGAIN)]
