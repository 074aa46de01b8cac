"""Events: keys, JSON Schema, reason codes, schema 1, texts, and files of JSON lines."""

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

from cstl_edge.errors import StorageError
from cstl_edge.gallery.match import Decision, NoMatch
from cstl_edge.live import events
from cstl_edge.live.event_schema_1 import decision_row, event_line
from cstl_edge.live.events import REASON_CODES, Event, EventLog, ReasonCode, json_schema
from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.tracking.walk_filter import Reason

AT = datetime(2026, 11, 1, 12, 0, tzinfo=timezone.utc)
NAMED = Event(
    event="named", source="cam", time_s=1.23456, track=7, answer="known", person="Zoë\n<b>",
    distance=0.5, threshold=0.9, frames=30, latency_ms=12.34567, box=(1.00004, 2.0, 3.0, 4.0),
    model="0123456789ab", utc=AT, monotonic_s=5.0,
)  # fmt: skip


def decision(name: str | None = None, reason: NoMatch | None = None, **more: Any) -> Decision:
    fields = {"distance": 0.25, "threshold": 0.9, "runner_up": "Ben", "margin": 0.123456}
    return Decision(
        name=name, threshold_source="model", fpir=0.01, people=2, reason=reason, **(fields | more)
    )


def closed(**fields: Any) -> Event:
    return Event(event="closed", source="cam", track=1, **fields)


def test_event_has_every_key_and_numbers_of_four_decimals() -> None:
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


def test_schema_file_equals_the_schema_of_the_class() -> None:
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


def test_every_reason_has_its_own_code() -> None:
    causes = {*Reason, *NoMatch, *SceneState} - {SceneState.READY}
    assert causes == set(REASON_CODES)
    assert len({cause.value for cause in causes}) == len(causes)
    assert len(set(REASON_CODES.values())) == len(REASON_CODES)
    others = {
        ReasonCode.BACKEND_FAILED,
        ReasonCode.SOURCE_OFFLINE,
        ReasonCode.UPSIDE_DOWN,
    }  # their sentences are free
    assert set(REASON_CODES.values()) | others == set(ReasonCode)
    assert set(events.SCENE_STATES) == set(SceneState)


@pytest.mark.parametrize("reason", [cause for cause in NoMatch if cause is not NoMatch.NO_GALLERY])
def test_decision_of_the_gallery_becomes_an_answer(reason: NoMatch) -> None:
    event = closed(answer="none")
    known = event.with_decision(decision("Ada"))
    assert (known.answer, known.person, known.reason) == ("known", "Ada", None)
    assert known.distance == 0.25
    unknown = event.with_decision(decision(reason=reason))
    assert (unknown.answer, unknown.person, unknown.reason) == ("unknown", None, reason.value)
    assert violations(unknown.to_dict()) == []
    assert unknown.to_dict()["margin"] == 0.1235


def test_unknown_answer_differs_from_a_person_named_unknown() -> None:
    nobody, person = closed(answer="unknown"), closed(answer="known", person="unknown")
    assert nobody.to_dict()["person"] is None
    assert person.to_dict()["answer"] == "known"
    old_nobody, old_person = json.loads(event_line(nobody)), json.loads(event_line(person))
    assert (old_nobody["answer"], old_nobody["unknown"]) == ("unknown", True)
    assert old_person["answer"] == "unknown"
    assert "unknown" not in old_person


def test_event_texts_for_people() -> None:
    text = str(NAMED)
    assert text == "track 7 identified as Zoë\\n<b> (distance 0.50, threshold 0.90)"
    scene = Event(event="scene", source="cam", state="learning")
    scene = scene.with_reason(SceneState.LEARNING)
    assert str(scene) == "cam source - scene: learning the empty scene"
    moves = Event(event="scene", source="cam", state="ready", detail="the camera moves")
    assert str(moves) == "cam source - scene: the camera moves"
    lost = Event(event="source", source="cam", state="offline", reason="mute", detail="attempt 2")
    assert str(lost) == "cam source - offline: mute (attempt 2)"


def test_schema_1_equals_the_lines_of_the_version_before() -> None:
    """Lines of that version, but for the clocks."""
    pending = Event(
        event="pending", source="cam", track=1, frames=0, answer="none", utc=AT, monotonic_s=5.0,
        detail="0 usable frames, need 15",
    ).with_reason(Reason.TOO_FEW)  # fmt: skip
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


def test_lines_are_appended_and_a_torn_line_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "events.jsonl"
    with EventLog(path) as lines:
        lines.write(NAMED)
    with path.open("ab") as file:
        file.write(b'{"event": "bo')
    with EventLog(path, event_line) as lines:
        lines.write(NAMED)
        lines.close()
    first, torn, last = path.read_text(encoding="utf-8").splitlines()
    assert (first, last) == (NAMED.to_json(), event_line(NAMED))
    assert torn == '{"event": "bo'


def test_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch) -> None:
    whole = os.write
    with EventLog(tmp_path / "events.jsonl") as lines:
        lines.write(NAMED)
        monkeypatch.setattr(os, "write", lambda file, data: whole(file, data[:10]))
        with pytest.raises(StorageError, match="No space"):
            lines.write(NAMED)
    assert (tmp_path / "events.jsonl").read_text(encoding="utf-8") == NAMED.to_json() + "\n"


def test_unwritable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"cannot write .*events\.jsonl"):
        EventLog(tmp_path / "file" / "events.jsonl")
