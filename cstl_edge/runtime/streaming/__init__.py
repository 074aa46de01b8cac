"""Streaming: windows over the latest frames of many walkers, on any `Encoder`."""
