"""What all tests share: the edge install has no torch, and its tests say so instead of failing."""

import importlib.util

TORCH = importlib.util.find_spec("torch") is not None
NEEDS_TORCH = ["model", "training", "export", "reproduce"]
collect_ignore = [] if TORCH else NEEDS_TORCH


def pytest_report_header():
    """Tell which half of the package is under test."""
    if TORCH:
        return "cstl-edge: everything (torch is installed)"
    return f"cstl-edge: the edge runtime; no torch, so {', '.join(NEEDS_TORCH)} are left out"
