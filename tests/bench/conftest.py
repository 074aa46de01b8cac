"""File systems of boards, unfolded from what is recorded."""

import json
from pathlib import Path

import pytest

RECORDED = Path(__file__).parent / "recorded"


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
