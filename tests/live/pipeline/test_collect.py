"""Walks of a recording, as enrolment takes them: who is in the shipped clip."""

from contextlib import closing
from pathlib import Path

import cstl_edge
from cstl_edge.live.pipeline.collect import collect
from cstl_edge.runtime import load

CLIP = Path(cstl_edge.__file__).parent / "assets" / "walk.mp4"


def test_the_shipped_clip_has_one_walk():
    """A woman walks by; the man beside her swings on the spot, and their blobs part at 1.9 s."""
    with closing(load()) as encoder:
        (walk,) = collect(str(CLIP), encoder)
    assert walk.frames > 55
    assert walk.ended_s - walk.started_s > 4
