"""Public functions that generate Walkers: synthetic people, rendered with numpy and cv2 alone.

    >>> who = person(7)
    >>> walk = recording(1, "bg", 90.0, fps=10.0)
    >>> silhouettes(who, walk, frames=5).shape
    (5, 64, 44)

A person (a body and a way of walking) and a recording (session, camera, segmenter) are drawn from
seeds; the same seeds give the same bytes. `masks` are a walk as a segmenter would see it and
`silhouettes` those masks aligned; `clean_masks` and `sprites` serve to compose scenes with a known
truth; `generate` makes whole sets in the CASIA-B layout.
"""

from __future__ import annotations

from cstl_edge.walkers.collection import CASIA_B, VIEWS_DEG, WalkersSet, generate
from cstl_edge.walkers.frames import (
    Sprite,
    body_height_m,
    clean_masks,
    masks,
    silhouettes,
    speed_mps,
    sprites,
)
from cstl_edge.walkers.person import Person, make_person
from cstl_edge.walkers.pose import stride_time_s
from cstl_edge.walkers.recording import BAGS, CONDITIONS, Recording, make_recording

__all__ = [
    "BAGS",
    "CASIA_B",
    "CONDITIONS",
    "VIEWS_DEG",
    "Person",
    "Recording",
    "Sprite",
    "WalkersSet",
    "body_height_m",
    "clean_masks",
    "generate",
    "masks",
    "person",
    "recording",
    "silhouettes",
    "speed_mps",
    "sprites",
    "stride_time_s",
]


def person(seed: int, *, body_seed: int | None = None) -> Person:
    """Draw a person; people of the same `body_seed` share a body and differ in gait."""
    return make_person(seed, seed if body_seed is None else body_seed)


def recording(
    seed: int, condition: str = "nm", view_deg: float = 90.0, **overrides: object
) -> Recording:
    """Draw a recording; the same seed at another view is the same walk from another camera.

    Args:
        seed: of the session and, with the view, of the camera.
        condition: nm normal, bg bag, cl coat.
        view_deg: 0 towards the camera, 90 from the walker's left side, 180 away.
        overrides: values of fields of `Recording` by name.

    Raises:
        ValueError: an unknown condition or field, or a value out of range.
    """
    return make_recording(seed, condition, view_deg, overrides)
