"""The event that tells that a gallery erased people whose retention has ended."""

from types import SimpleNamespace

from cstl_edge.live.pipeline.options import PipelineOptions, RunSummary
from cstl_edge.live.pipeline.recognition import RecognitionStage
from cstl_edge.runtime.base import EncoderInfo

INFO = EncoderInfo("stand-in", "cpu", "float32", 1, "s", "0" * 64, (64, 44), 16, 44, 88)


def stage_of(gallery):
    encoder = SimpleNamespace(info=INFO)
    return RecognitionStage("cam", encoder, gallery, PipelineOptions(), RunSummary(), keep=False)


def test_people_who_were_purged_are_an_event_without_their_names():
    batches = [("Ada", "Bob"), ()]
    stage = stage_of(SimpleNamespace(take_purged=lambda: batches.pop(0)))
    (event,) = stage.purged()
    assert (event.event, event.state) == ("gallery", "purged")
    assert event.detail == "2 erased, whose retention has ended"
    assert "Ada" not in event.to_json()
    assert stage.purged() == []


def test_without_a_gallery_nobody_is_purged():
    assert stage_of(None).purged() == []
