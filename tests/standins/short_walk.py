"""A part of the shipped clip, of half the size and rate: two seconds of the woman's walk."""

from importlib.resources import files

import cv2

CLIP = files("cstl_edge") / "assets" / "walk.mp4"
START_S, STOP_S = 1.8, 4.0


def write_short_walk(target):
    """Write it to a file and return its path."""
    video = cv2.VideoCapture(str(CLIP))
    fps = video.get(cv2.CAP_PROP_FPS)
    size = tuple(int(video.get(side)) // 4 * 2 for side in (3, 4))
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*"mp4v"), fps / 2, size)
    for number in range(round(STOP_S * fps)):
        frame = video.read()[1]
        if number >= START_S * fps and number % 2 == 0:
            writer.write(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
    writer.release()
    video.release()
    return target
