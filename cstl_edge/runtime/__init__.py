"""Run an exported or trained network, frame by frame or whole, on any of several runtimes."""

from cstl_edge.runtime.base import Embedded, Encoder, EncoderInfo
from cstl_edge.runtime.load import load
from cstl_edge.runtime.streaming.encoder import StreamingEncoder, StreamResult

__all__ = ["Embedded", "Encoder", "EncoderInfo", "StreamResult", "StreamingEncoder", "load"]
