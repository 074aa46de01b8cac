"""The head's layers as matrices for rows from the left, stacked as its faster forms need them.

`temporal` and `salient` keep parts and channels first, [p, c, n, s], and a weight [p, outputs,
inputs]. `export_head` and `incremental_head` keep channels last, so that what is the same for all
frames is added by the row, and join layers that read the same rows into one product.

Both take T_f and the sum T_f + T_s of Eq. 2, for the convolutions give that sum. Letters: p parts,
c channels, h hidden units.
"""

from __future__ import annotations

from torch import Tensor, nn

from cstl_edge.model.config import SCALES, CstlConfig
from cstl_edge.model.salient import PartScores
from cstl_edge.model.temporal import AdaptiveAggregation, PartLinear


def has_fast_heads(config: CstlConfig) -> bool:
    """Tell whether a network has both faster heads: the paper's network without ablations."""
    whole = config.scales == SCALES and config.aggregation == "adaptive" and config.salient
    return whole and config.variant == "paper"


def matrix(layer: nn.Module) -> Tensor:
    """Return the weight of a layer for rows from the left, [p, inputs, outputs]."""
    assert isinstance(layer, PartLinear)
    return layer.weight.transpose(1, 2)


class HiddenMatrices:
    """The first layers of Eq. 3 and of Eq. 6 as pairs of matrices [p, c, h], (Eq. 3, Eq. 6).

    Eq. 3 reads the sums of Eq. 2, of which two hold T_s; Eq. 6 reads T_s itself, which is T_f + T_s
    without T_f. Each pair is computed when it is asked for, so that a traced graph has its nodes in
    the order of use.
    """

    def __init__(self, aggregation: AdaptiveAggregation, scores: PartScores) -> None:
        self._mixing = {name: matrix(layer) for name, layer in aggregation.first.items()}
        self._scoring = {name: matrix(layer) for name, layer in scores.first.items()}

    def on_frame(self) -> tuple[Tensor, Tensor]:
        """Return what T_f is multiplied by."""
        return self._mixing["frame"], self._scoring["frame"] - self._scoring["short"]

    def on_sums(self) -> tuple[Tensor, Tensor]:
        """Return what T_f + T_s is multiplied by."""
        return self._mixing["short"] + self._mixing["long"], self._scoring["short"]

    def on_long(self) -> tuple[Tensor, Tensor]:
        """Return what T_l is multiplied by."""
        return self._mixing["long"], self._scoring["long"]


def gate_matrices(aggregation: AdaptiveAggregation) -> list[Tensor]:
    """Return the second layers of Eq. 3, [p, h, c] for each scale."""
    return [matrix(aggregation.second[name]) for name in SCALES]
