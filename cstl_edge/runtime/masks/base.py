"""Protocol of open mask networks, and the numbers that they give. Letter: `m` crops."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from cstl_edge.arrays import Floats, Image
from cstl_edge.runtime.masks.manifest import MaskManifest

SMALLEST = 1e-6  # of a probability that becomes a logit
SURE_LOGIT = 2.5  # the mask's largest where somebody is, of a network that has no presence


class MaskNetwork(Protocol):
    """Masks people in square crops. One thread at a time calls it."""

    side: int  # of a crop [pixels]
    provider: str  # what computes

    def __call__(self, crops: Image) -> tuple[Floats, Floats]:
        """Return logits [m, side, side] and presence [m] of crops uint8 BGR [m, side, side, 3].

        A person is where a logit is above 0; presence is 0..1. Raises ModelError,
        BackendUnavailable where a GPU fails.
        """

    def close(self) -> None:
        """Give back what the runtime holds."""


def logits_and_presence(
    manifest: MaskManifest, mask: Any, presence: Any | None
) -> tuple[Floats, Floats]:
    """Return logits [m, side, side] and presence [m] of a network's outputs.

    Args:
        manifest: Manifest of the network.
        mask: Output of the mask, of any shape with m first.
        presence: Output of the presence; None where the network has none: then it is 0.5 where
            the mask's largest logit is `SURE_LOGIT`.
    """
    side = manifest.input.side
    logits = np.asarray(mask, np.float32).reshape(-1, side, side)
    if manifest.mask.meaning == "probability":
        share = logits.clip(SMALLEST, 1 - SMALLEST)
        logits = np.log(share / (1 - share))
    if presence is None:
        return logits, _probability(logits.max(axis=(1, 2)) - SURE_LOGIT)
    score = np.asarray(presence, np.float32).reshape(-1)
    is_logit = manifest.presence is not None and manifest.presence.meaning == "logit"
    return logits, _probability(score) if is_logit else score


def _probability(logits: Floats) -> Floats:
    """Return the probabilities of logits, which may be as large as they like."""
    half: Floats = 0.5 * (1 + np.tanh(0.5 * logits))
    return half
