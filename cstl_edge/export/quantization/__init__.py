"""Reduced precisions of an exported model, FP16 and INT8, each through its accuracy gate."""
