"""Segmentation: background subtraction, and a person mask network on top of it."""
