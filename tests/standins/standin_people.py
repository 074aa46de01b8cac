"""People who take no time to make, and the smallest network that tells them apart."""

import numpy as np

TINY = [
    "model={widths: [2, 4, 8, 8], parts: 4, embedding: 16}",
    "sampler={people: 3, sequences: 2, frames: 4, rule: released}",
    "optimiser.rate=0.003",
    "run.iterations=8",
    "run.log_every=2",
]


class Bars:
    """Eight people, each a bar of a width and place of their own that sways."""

    def __init__(self):
        self.people = np.repeat(np.arange(100, 108), 4)
        self.lengths = np.full(32, 9)

    def read(self, sequence):
        frames = np.zeros((9, 64, 44), np.uint8)
        person = self.people[sequence] - 100
        for t in range(9):
            left = 2 + 2 * person + (t + sequence) % 3
            frames[t, 8 * (person % 4) :, left : left + 6 + 2 * person] = 255
        return frames


class LabelledBars(Bars):
    """Four such people in CASIA-B's recordings from two views, of different lengths."""

    def __init__(self):
        names = [f"nm-0{i}" for i in range(1, 7)] + ["bg-01", "bg-02", "cl-01", "cl-02"]
        self.people = np.repeat(np.arange(100, 104), 20)
        self.sequences = np.tile(np.repeat(names, 2), 4)
        self.views_deg = np.tile([0, 90], 40)
        self.lengths = 3 + np.arange(80) % 7

    def read(self, sequence):
        return super().read(sequence)[: self.lengths[sequence]]
