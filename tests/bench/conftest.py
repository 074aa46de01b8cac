"""What the tests of the suite share: contexts on the golden export, file systems of boards."""

import json
from pathlib import Path

import pytest
from standin_bench import GOLDEN, context_of

from cstl_edge.bench.backends import open as backend_table

RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture(scope="session")
def golden():
    """The folder of the golden exports."""
    return GOLDEN


@pytest.fixture
def plain():
    """The golden export in float32 alone."""
    return context_of(GOLDEN / "tiny")


@pytest.fixture
def reduced():
    """The golden export in three precisions, without a checkpoint."""
    return context_of(GOLDEN / "tiny_reduced")


@pytest.fixture
def trained():
    """The golden export with its checkpoint, which PyTorch opens."""
    pytest.importorskip("torch", reason="needs torch")
    return context_of(GOLDEN / "tiny_reduced", GOLDEN / "tiny.safetensors")


class Everything:
    """A tuple of all names."""

    def __contains__(self, name):
        return True


@pytest.fixture
def everybody(monkeypatch):
    """Let the short form measure every backend of this machine."""
    monkeypatch.setattr(backend_table, "SHORT_FORM", Everything())


@pytest.fixture
def board_tree(tmp_path):
    """Unfold the tree of files of a board below a root; return the root."""

    def unfold(name, **changes):
        root = tmp_path / name
        files = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))["files"]
        for path, text in {**files, **changes}.items():
            if text is None:
                (root / path).unlink()
                continue
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        return root

    return unfold
