"""Checkpoint files: CSTL's own weights, and those of the released code. Imports torch."""
