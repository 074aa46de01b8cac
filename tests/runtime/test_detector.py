"""Detector of people: its output is read as the notice says; the shipped file finds a walker."""

from __future__ import annotations

import numpy as np
import pytest

from cstl_edge.errors import ModelError
from cstl_edge.live.sources.open import open_source
from cstl_edge.runtime import detector
from cstl_edge.runtime.detector import PersonDetector, people_of


def cells_with(*people: tuple[int, int, float, int]):
    """Return cells [85, 22, 22] with (row, column, objectness, kind), boxes half the picture."""
    cells = np.zeros((85, 22, 22), np.float32)
    for row, column, objectness, kind in people:
        cells[0, row, column] = objectness
        cells[5 + kind, row, column] = 1.0
    return cells


def test_a_cell_is_a_box_around_its_corner_and_offset() -> None:
    (person,) = people_of(cells_with((11, 11, 0.5, 0)), (440, 880))
    assert person.score == pytest.approx(0.5**0.6)
    assert person.box == pytest.approx((220, 110, 440, 220))


def test_other_kinds_and_unsure_people_are_left_out_and_nobody_comes_twice() -> None:
    cells = cells_with((4, 4, 0.9, 7), (11, 11, 0.9, 0), (11, 12, 0.8, 0), (18, 4, 0.1, 0))
    people = people_of(cells, (440, 440))
    assert [round(person.score, 3) for person in people] == [round(0.9**0.6, 3)]


def test_another_file_than_the_shipped_one_is_refused(tmp_path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(b"onnx")
    with pytest.raises(ModelError, match="expected the shipped person detector"):
        PersonDetector(other)


def test_the_shipped_detector_finds_the_walker_of_the_clip() -> None:
    clip = detector.SHIPPED.parent / "walk.mp4"
    with open_source(str(clip)) as source:
        image = next(frame.image for frame in source if frame.index == 110)
    (person,) = PersonDetector()(image)
    assert person.score > 0.8
    assert person.box == pytest.approx((422, 250, 77, 209), abs=8)
    assert (detector.SHIPPED.parent / "NOTICE-fastestdet.md").is_file()
