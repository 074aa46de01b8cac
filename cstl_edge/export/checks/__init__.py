"""Checks of an export: parity with PyTorch, accuracy gate of a reduced precision."""
