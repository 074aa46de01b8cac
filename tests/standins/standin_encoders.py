"""Encoders that are not what they say."""

import dataclasses

import numpy as np


class Wrong:
    """An encoder whose channels are turned round."""

    def __init__(self, encoder):
        self._encoder = encoder
        self.info = dataclasses.replace(encoder.info, slides=False)

    def frames(self, silhouettes):
        return np.ascontiguousarray(self._encoder.frames(silhouettes)[:, :, ::-1])

    def __getattr__(self, name):
        return getattr(self._encoder, name)
