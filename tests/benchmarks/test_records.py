"""Committed records: every line is one JSON object and names no folder of a machine."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "benchmarks" / "results"
RECORDS = sorted(ROOT.rglob("*.jsonl"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_are_objects(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert not [line for line in lines if "/root/" in line or "/home/" in line]
