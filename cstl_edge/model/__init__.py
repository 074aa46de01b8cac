"""CSTL in PyTorch, and nothing but PyTorch.

`cstl` holds the network: the trunk (`backbone`) turns one silhouette into part features, the head
turns a window of them into an embedding. The head exists in three forms that compute the same, up
to rounding:

- `temporal` and `salient` are the paper's form, one class per equation; it is trained, and
  `released` varies it for the weights of the paper's authors;
- `export_head` is the fused form that `head.onnx` and `full.onnx` hold: fewer, larger products,
  channels last, for a whole window at once;
- `incremental_head` is the form for a window that slides, in three graphs: `taps` once per new
  frame, `mix` once per frame whose neighbours changed, `slide` once per answer.
  `runtime.streaming.rings` adds up what lies between them, and needs no torch.

The last two stack the matrices of the first (`head_matrices`); tests hold all forms together.
"""

from cstl_edge.model.config import CstlConfig
from cstl_edge.model.cstl import Cstl, TrainingOutputs
from cstl_edge.model.part_gather import part_gather

__all__ = ["Cstl", "CstlConfig", "TrainingOutputs", "part_gather"]
