"""The live path: sources, segmentation, tracking, and the pipeline from a camera to events."""
