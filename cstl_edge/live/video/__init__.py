"""Annotated video: encoder, fragmented MP4, and the writer that joins them with the drawing."""
