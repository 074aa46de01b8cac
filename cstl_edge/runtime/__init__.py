"""Run an exported or trained network, frame by frame or whole, on any of several runtimes."""

from cstl_edge.runtime.load import load

__all__ = ["load"]
