"""An event is one line of JSON of one shape, and no half line is ever left."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from event_schema import violations

from cstl_edge.errors import DataError
from cstl_edge.gallery.match import Decision
from cstl_edge.live import events
from cstl_edge.live.event_schema_1 import decision_row, event_line
from cstl_edge.live.events import REASON_CODES, Event, JsonLines, ReasonCode, json_schema
from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.tracking.walk_filter import Reason

AT = datetime(2026, 11, 1, 12, 0, tzinfo=timezone.utc)
NAMED = Event(
    event="named", source="cam", time_s=1.23456, track=7, answer="known", person="Zoë\n<b>",
    distance=0.5, threshold=0.9, frames=30, latency_ms=12.34567, box=(1.00004, 2.0, 3.0, 4.0),
    model="0123456789ab", utc=AT, monotonic_s=5.0,
)  # fmt: skip


def decision(name: str | None = None, reason: str | None = None, **more: Any) -> Decision:
    fields = {"distance": 0.25, "threshold": 0.9, "runner_up": "Ben", "margin": 0.123456}
    return Decision(
        name=name, threshold_source="model", fpir=0.01, people=2, reason=reason, **(fields | more)
    )


def closed(**fields: Any) -> Event:
    return Event(event="closed", source="cam", track=1, **fields)


def test_every_key_is_there_and_numbers_have_four_decimals() -> None:
    line = NAMED.to_json()
    assert "\n" not in line
    record = json.loads(line)
    assert list(record) == [field.name for field in fields(Event)]
    known = {key: value for key, value in record.items() if value is not None}
    assert known == {
        "schema": 2, "event": "named", "utc": "2026-11-01T12:00:00.000+00:00", "monotonic_s": 5.0,
        "time_s": 1.2346, "source": "cam", "track": 7, "box": [1.0, 2.0, 3.0, 4.0],
        "answer": "known", "person": "Zoë\n<b>", "distance": 0.5, "threshold": 0.9, "frames": 30,
        "latency_ms": 12.3457, "model": "0123456789ab",
    }  # fmt: skip


def test_the_schema_in_the_package_is_the_models() -> None:
    """To write it again: json.dumps(json_schema(), indent=1, ensure_ascii=False) + newline."""
    committed = (files("cstl_edge") / "assets" / "event.schema.json").read_text(encoding="utf-8")
    assert json.loads(committed) == json_schema()
    assert committed == json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def test_events_fit_the_schema_and_others_do_not() -> None:
    assert violations(NAMED.to_dict()) == []
    for wrong in (
        {"event": "gone"}, {"schema": 1}, {"track": "7"}, {"box": [1.0, 2.0]}, {"reason_code": "x"},
        {"colour": "red"}, {"utc": None}, {"answer": "Zoë"}, {"frames": 1.5},
    ):  # fmt: skip
        assert violations(NAMED.to_dict() | wrong), wrong
    without = NAMED.to_dict()
    del without["zone"]
    assert violations(without)


def test_every_reason_has_a_code_of_its_own() -> None:
    sentences = [reason.value for reason in Reason]
    sentences += [state.value for state in SceneState if state is not SceneState.READY]
    assert set(sentences) <= set(REASON_CODES)
    assert len(set(REASON_CODES.values())) == len(REASON_CODES)
    others = {ReasonCode.BACKEND_FAILED, ReasonCode.SOURCE_OFFLINE}  # their sentences are free
    assert set(REASON_CODES.values()) | others == set(ReasonCode)
    assert set(events.SCENE_STATES) == set(SceneState)


@pytest.mark.parametrize(
    "reason",
    ["gallery is empty", "embedding is not finite", "no calibration", "nearest is too far",
     "ambiguous"],
)  # fmt: skip
def test_what_the_gallery_decides_becomes_an_answer(reason: str) -> None:
    event = closed(answer="none")
    known = event.with_decision(decision("Ada"))
    assert (known.answer, known.person, known.reason) == ("known", "Ada", None)
    assert known.distance == 0.25
    unknown = event.with_decision(decision(reason=reason))
    assert (unknown.answer, unknown.person, unknown.reason) == ("unknown", None, reason)
    assert violations(unknown.to_dict()) == []
    assert unknown.to_dict()["margin"] == 0.1235


def test_unknown_is_an_answer_and_a_person_of_that_name_is_another() -> None:
    nobody, person = closed(answer="unknown"), closed(answer="known", person="unknown")
    assert nobody.to_dict()["person"] is None
    assert person.to_dict()["answer"] == "known"
    old_nobody, old_person = json.loads(event_line(nobody)), json.loads(event_line(person))
    assert (old_nobody["answer"], old_nobody["unknown"]) == ("unknown", True)
    assert old_person["answer"] == "unknown"
    assert "unknown" not in old_person


def test_it_reads_well() -> None:
    text = str(NAMED)
    assert text == "track 7 identified as Zoë\\n<b> (distance 0.50, threshold 0.90)"
    scene = Event(event="scene", source="cam", state="learning")
    scene = scene.with_reason(SceneState.LEARNING.value)
    assert str(scene) == "cam source - scene: learning the empty scene"
    lost = Event(event="source", source="cam", state="offline", reason="mute", detail="attempt 2")
    assert str(lost) == "cam source - offline: mute (attempt 2)"


def test_schema_1_is_what_the_version_before_wrote() -> None:
    """Lines of that version, but for the clocks."""
    pending = Event(
        event="pending", source="cam", track=1, frames=0, answer="none", utc=AT, monotonic_s=5.0,
        detail="0 usable frames, need 15",
    ).with_reason("too few frames")  # fmt: skip
    scene = Event(event="scene", source="cam", time_s=2.0, state="ready", utc=AT, monotonic_s=5.0)
    at = '"utc": "2026-11-01T12:00:00.000+00:00", "monotonic_s": 5.0, '
    assert [event_line(event) for event in (NAMED, pending, scene)] == [
        '{"event": "identified", ' + at + '"time_s": 1.2346, "source": "cam", "track": 7, '
        '"answer": "Zoë\\n<b>", "distance": 0.5, "threshold": 0.9, "frames": 30, '
        '"latency_ms": 12.3457}',
        '{"event": "pending", ' + at + '"source": "cam", "track": 1, "reason": "too few frames", '
        '"frames": 0, "detail": "0 usable frames, need 15"}',
        '{"event": "source", ' + at + '"time_s": 2.0, "source": "cam", "reason": "scene: ready"}',
    ]
    row = decision_row(0, 32, decision("Ada", nearest="Ada"))
    assert list(row) == [
        "track", "frames", "answer", "name", "distance", "threshold", "runner_up", "margin",
        "threshold_source", "fpir", "people", "reason", "nearest", "note",
    ]  # fmt: skip
    assert decision_row(0, 32, decision())["answer"] == "unknown"


def test_lines_are_appended_and_a_torn_one_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "events.jsonl"
    with JsonLines(path) as lines:
        lines.write(NAMED)
    with path.open("ab") as file:
        file.write(b'{"event": "bo')
    with JsonLines(path, event_line) as lines:
        lines.write(NAMED)
        lines.close()
    first, torn, last = path.read_text(encoding="utf-8").splitlines()
    assert (first, last) == (NAMED.to_json(), event_line(NAMED))
    assert torn == '{"event": "bo'


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch) -> None:
    whole = os.write
    with JsonLines(tmp_path / "events.jsonl") as lines:
        lines.write(NAMED)
        monkeypatch.setattr(os, "write", lambda file, data: whole(file, data[:10]))
        with pytest.raises(DataError, match="no space"):
            lines.write(NAMED)
    assert (tmp_path / "events.jsonl").read_text(encoding="utf-8") == NAMED.to_json() + "\n"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot write events"):
        JsonLines(tmp_path / "file" / "events.jsonl")
