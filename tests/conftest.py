"""What all tests share: the edge install has no torch, and its tests say so instead of failing."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

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


@pytest.fixture(scope="session", autouse=True)
def trusted():
    """Count the golden exports among the shipped: no child process checks them, but what differs.

    A child costs half a second. Tests of the child take `untrusted`.
    """
    from cstl_edge.runtime import model_check

    golden = (Path(__file__).parent / "golden").glob("*/manifest.json")
    files = [json.loads(path.read_text())["files"].values() for path in golden]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_check, "SHIPPED_SHA256", model_check.SHIPPED_SHA256.union(*files))
        yield


@pytest.fixture
def untrusted(monkeypatch):
    """Let a child process check the golden and the shipped exports too."""
    monkeypatch.setattr("cstl_edge.runtime.model_check.SHIPPED_SHA256", frozenset())


@pytest.fixture(autouse=True)
def denormals():
    """Undo what a training in this process sets for good: numbers below 1e-38 become zero."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_flush_denormal(False)
