"""Zones: people count by where their feet are."""

import numpy as np
import pytest

from cstl_edge.live.segmentation.base import Detection, SceneState
from cstl_edge.serve.site import Zone
from cstl_edge.serve.zones import ZonedSegmenter, Zones, feet_of, inside

SIZE = (100, 200)  # height, width
LEFT = Zone(name="left", polygon=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
TOP = Zone(name="top", polygon=((0, 0), (1, 0), (1, 0.5), (0, 0.5)), use="ignore")


def person(x, feet):
    return (x - 5.0, feet - 40.0, 10.0, 40.0)


@pytest.mark.parametrize(
    ("zones", "x", "feet", "counts", "name"),
    [
        ((), 150, 90, True, None),
        ((LEFT,), 50, 90, True, "left"),
        ((LEFT,), 150, 90, False, None),
        ((TOP,), 150, 90, True, None),
        ((TOP,), 150, 45, False, None),
        ((LEFT, TOP), 50, 45, False, "left"),
        ((LEFT,), 50, 130, True, "left"),  # feet below the picture's edge
    ],
)
def test_feet_decide(zones, x, feet, counts, name):
    box = person(x, feet)
    assert Zones(zones).counts(box, SIZE) is counts
    assert Zones(zones).name_of(box, SIZE) == name


def test_edges_belong_to_a_zone_and_a_notch_does_not():
    notched = [(0, 0), (1, 0), (1, 1), (0.5, 0.2), (0, 1)]
    assert inside((0.5, 0.2), notched)
    assert inside((0.0, 0.5), notched)
    assert not inside((0.5, 0.6), notched)
    assert not inside((1.2, 0.5), notched)
    assert feet_of(person(100, 50), SIZE) == (0.5, 0.5)


def test_the_segmenter_leaves_out_who_does_not_count():
    mask = np.full((40, 10), 255, np.uint8)

    class Finds:
        state = SceneState.READY

        def segment(self, image, time_s, expected=()):
            return [Detection(person(x, 90), mask, False) for x in (50, 150)]

    found = ZonedSegmenter(Finds(), Zones((LEFT,))).segment(np.zeros((*SIZE, 3), np.uint8), 0.0)
    assert [d.box for d in found] == [person(50, 90)]
