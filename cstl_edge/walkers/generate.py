"""Public functions that generate Walkers: synthetic people, rendered with numpy and cv2 alone.

    >>> who = person(7)
    >>> walk = recording(1, "bg", 90.0, fps=10.0)
    >>> silhouettes(who, walk, frames=5).shape
    (5, 64, 44)

A person (a body and a way of walking) and a recording (session, camera, segmenter) are drawn from
seeds; the same seeds give the same bytes. `masks` are a walk as a segmenter would see it and
`silhouettes` those masks aligned; `sprites` serve to compose scenes with a known truth; `generate`
makes whole sets in the CASIA-B layout.
"""

from __future__ import annotations

from cstl_edge.walkers.body import body_height_m
from cstl_edge.walkers.collection import CASIA_B, VIEWS_DEG, WalkersSet, generate
from cstl_edge.walkers.frames import Sprite, masks, silhouettes, speed_mps, sprites
from cstl_edge.walkers.person import Person
from cstl_edge.walkers.person import make_person as person
from cstl_edge.walkers.pose import stride_time_s
from cstl_edge.walkers.recording import BAGS, CONDITIONS, Recording
from cstl_edge.walkers.recording import make_recording as recording

__all__ = [
    "BAGS", "CASIA_B", "CONDITIONS", "VIEWS_DEG", "Person", "Recording", "Sprite", "WalkersSet",
    "body_height_m", "generate", "masks", "person", "recording", "silhouettes", "speed_mps",
    "sprites", "stride_time_s",
]  # fmt: skip
