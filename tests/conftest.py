"""What all tests share: the edge install has no torch, and its tests say so instead of failing."""

import importlib.util
import os

# Before numpy and torch are imported: threads that wait for a core spin, and cost twice the CPU.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

TORCH = importlib.util.find_spec("torch") is not None
NEEDS_TORCH = ["checkpoint", "model", "training", "export", "reproduce"]
collect_ignore = [] if TORCH else NEEDS_TORCH


def pytest_report_header():
    """Tell which half of the package is under test."""
    if TORCH:
        return "cstl-edge: everything (torch is installed)"
    return f"cstl-edge: the edge runtime; no torch, so {', '.join(NEEDS_TORCH)} are left out"
