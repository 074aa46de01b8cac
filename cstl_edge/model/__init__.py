"""CSTL in PyTorch, and nothing but PyTorch."""

from cstl_edge.model.config import CstlConfig
from cstl_edge.model.cstl import Cstl, TrainingOutputs
from cstl_edge.model.part_gather import part_gather

__all__ = ["Cstl", "CstlConfig", "TrainingOutputs", "part_gather"]
