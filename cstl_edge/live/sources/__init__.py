"""Sources of frames: files, cameras, network streams, GStreamer, a synthetic street."""
