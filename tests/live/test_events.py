"""An event is one line of JSON, and no half line is ever left."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from cstl_edge.errors import DataError
from cstl_edge.live.events import Event, JsonLines

AT = datetime(2026, 11, 1, 12, 0, tzinfo=timezone.utc)
NAMED = Event("identified", "cam", 1.23456, 7, "Zoë\n<b>", distance=0.5, threshold=0.9, frames=30,
              latency_ms=12.34567, utc=AT, monotonic_s=5.0)  # fmt: skip


def test_what_is_known_is_told_and_nothing_else() -> None:
    line = NAMED.to_json()
    assert "\n" not in line
    record = json.loads(line)
    assert record == {
        "event": "identified", "utc": "2026-11-01T12:00:00.000+00:00", "monotonic_s": 5.0,
        "time_s": 1.2346, "source": "cam", "track": 7, "answer": "Zoë\n<b>", "distance": 0.5,
        "threshold": 0.9, "frames": 30, "latency_ms": 12.3457,
    }  # fmt: skip


def test_unknown_is_an_answer_and_a_person_of_that_name_is_another() -> None:
    nobody = json.loads(Event("closed", "cam", track=1, unknown=True).to_json())
    person = json.loads(Event("closed", "cam", track=1, name="unknown").to_json())
    assert (nobody["answer"], nobody["unknown"]) == ("unknown", True)
    assert person["answer"] == "unknown"
    assert "unknown" not in person
    assert Event("pending", "cam", reason="too small").answer is None


def test_it_reads_well() -> None:
    text = str(NAMED)
    assert "track 7 identified as Zoë\\n<b>" in text
    assert "distance 0.50, threshold 0.90" in text


def test_lines_are_appended_and_a_torn_one_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "events.jsonl"
    with JsonLines(path) as lines:
        lines.write(NAMED)
    with path.open("ab") as file:
        file.write(b'{"event": "bo')
    with JsonLines(path) as lines:
        lines.write(NAMED)
        lines.close()
    first, torn, last = path.read_text(encoding="utf-8").splitlines()
    assert first == last == NAMED.to_json()
    assert torn == '{"event": "bo'


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch) -> None:
    import os

    whole = os.write

    def short(file: int, data: bytes) -> int:
        return whole(file, data[:10])

    with JsonLines(tmp_path / "events.jsonl") as lines:
        lines.write(NAMED)
        monkeypatch.setattr(os, "write", short)
        with pytest.raises(DataError, match="no space"):
            lines.write(NAMED)
    assert (tmp_path / "events.jsonl").read_text(encoding="utf-8") == NAMED.to_json() + "\n"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot write events"):
        JsonLines(tmp_path / "file" / "events.jsonl")
