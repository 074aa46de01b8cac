"""Cost of a pair of a track and a sighting: overlap or distance, and clothes."""

from __future__ import annotations

import math

from cstl_edge.live.boxes import box_iou, intersection
from cstl_edge.live.tracking.track import OUTGROWN, SURE_SCORE, Sighting, Track

MIN_IOU, MIN_IOU_UNSURE = 0.2, 0.4
REACH, REACH_PER_S = 0.3, 2.0  # body heights: distance from the expected place
MAX_REACH = 1.0
FAR = 0.8  # least cost of a pair without overlap
INSIDE = 0.6  # of the smaller of two boxes inside the other, at the border
MAX_INWARD = 0.25  # body heights: farther behind somebody on the way out it is somebody else
MAX_RATIO = 1.6  # between the heights of one walker in two detections
LOST_S = 0.3  # a person unseen for longer is matched by closer clothes
MAX_CLOTHES, MAX_CLOTHES_LOST = 0.6, 0.4  # one person 0.38 in 99 %, others 0.42 in 5 %
CLOTHES_WEIGHT = 1.5  # of their distance, against one minus the overlap
UNKNOWN_CLOTHES = 0.15  # in place of a distance that is not known
TENTATIVE = 0.5  # a tentative track must not take what fits a confirmed one
LIMIT = 3.0  # a pair that costs more is none


def pair_cost(track: Track, sighting: Sighting, time_s: float) -> float | None:
    """Return the cost of taking a sighting as the person of a track, None where it cannot be.

    Args:
        track: Its `expected` box is that of this frame.
        sighting: The candidate.
        time_s: Media time in seconds.
    """
    detection = sighting.detection
    if track.leaves(sighting.side or track.side) and track.inward(sighting, time_s) > MAX_INWARD:
        return None
    unsure = detection.score < SURE_SCORE
    overlap = box_iou(track.expected, detection.box)
    if overlap >= (MIN_IOU_UNSURE if unsure else MIN_IOU):
        motion = 1 - overlap
    else:
        distance = None if unsure else _distance(track, sighting, time_s)
        if distance is None:
            return None
        motion = distance
    clothes = track.clothes_distance(detection)
    if clothes is None:
        clothes = UNKNOWN_CLOTHES
    else:
        lost = time_s - track.time_s > LOST_S or track.merged_since_s is not None
        lost &= sighting.area < OUTGROWN * track.area  # else with somebody else
        if clothes > (MAX_CLOTHES_LOST if lost else MAX_CLOTHES):
            return None
    return motion + CLOTHES_WEIGHT * clothes + (0.0 if track.confirmed else TENTATIVE)


def _distance(track: Track, sighting: Sighting, time_s: float) -> float | None:
    """Return the cost of a pair that hardly overlaps, by how far the axis is from its place."""
    expected, box = track.expected, sighting.detection.box
    if track.clipped or sighting.detection.clipped:
        least = max(min(expected[2] * expected[3], box[2] * box[3]), 1e-9)
        if intersection(expected, box) > INSIDE * least:
            return 1.0
    larger, smaller = max(expected[3], box[3]), max(min(expected[3], box[3]), 1e-9)
    if larger > MAX_RATIO * smaller:
        return None
    foot = expected[0] + expected[2] / 2, expected[1] + expected[3]
    distance = math.dist(foot, (sighting.axis_px, box[1] + box[3])) / larger
    since = track.time_s if track.merged_since_s is None else track.merged_since_s
    reach = min(REACH + REACH_PER_S * (time_s - since), MAX_REACH)
    return FAR + distance / reach if distance <= reach else None
