"""Runtimes that run an exported folder or a checkpoint as an `Encoder`, chosen by `load`."""
