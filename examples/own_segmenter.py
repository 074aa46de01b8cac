"""A segmenter of one's own: people are what differs from the median picture of the recording.

python examples/own_segmenter.py street.mp4
"""

import cv2
import numpy as np
import typer

import cstl_edge as ce
from cstl_edge.live.segmentation.base import Detection, SceneState
from cstl_edge.live.segmentation.open import SEGMENTERS
from cstl_edge.registry import Entry


class MedianScene:
    def __init__(self, threads):
        self.state = SceneState.LEARNING

    def learn(self, samples, *, rolling=False):
        self.scene = np.median([first for first, _ in samples], axis=0).astype(np.uint8)
        self.state = SceneState.READY

    def segment(self, image, time_s, expected=()):
        moved = (cv2.absdiff(image, self.scene).max(axis=2) > 40).astype(np.uint8)  # [H, W]
        people = []
        _, labels, boxes, _ = cv2.connectedComponentsWithStats(moved)
        for label, (x, y, w, h, _) in list(enumerate(boxes))[1:]:
            if h > max(48, w):  # upright, and large enough
                mask = np.where(labels[y : y + h, x : x + w] == label, 255, 0).astype(np.uint8)
                clipped = x == 0 or y == 0 or x + w == image.shape[1] or y + h == image.shape[0]
                box = (float(x), float(y), float(w), float(h))
                people.append(Detection(box, mask, bool(clipped)))
        return people


SEGMENTERS.entries["median"] = Entry("__main__:MedianScene", "differs from the median")
if __name__ == "__main__":
    typer.run(lambda source: [print(event) for event in ce.watch(source, segmenter="median")])
