"""Annotated pictures: content, and files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from cstl_edge.errors import DataError, StorageError
from cstl_edge.live import annotate as module
from cstl_edge.live.annotate import (
    COLOURS,
    WalkerView,
    annotate,
    salient_parts,
    save_picture,
    silhouette_strip,
)

FRAME = np.full((120, 160, 3), 90, np.uint8)
VIEW = WalkerView((60.0, 40.0, 30.0, 60.0), "1: Zoë 0.4", "known", np.full((60, 30), 255, np.uint8))


def test_a_walker_gets_box_silhouette_and_label() -> None:
    picture = annotate(FRAME, [VIEW], "a note")
    assert (FRAME == 90).all()
    assert tuple(picture[40, 75]) == COLOURS["known"]  # the box
    assert picture[70, 75, 1] > 110  # the silhouette shines through
    assert (picture[:40] != 90).any()


@pytest.mark.parametrize(
    "box", [(-20.0, -10.0, 30.0, 60.0), (150.0, 100.0, 30.0, 60.0), (300.0, 0.0, 5.0, 5.0)]
)
def test_boxes_beyond_the_frame_do_no_harm(box: tuple[float, float, float, float]) -> None:
    assert annotate(FRAME, [WalkerView(box, "x" * 200, "known", VIEW.mask)]).shape == FRAME.shape


@pytest.mark.parametrize("name", ["Zoë", "李雷", "a\nb", "", "🙂"])
def test_names_in_any_script_are_drawn(name: str) -> None:
    annotate(FRAME, [WalkerView(VIEW.box, name)])


def test_accents_are_dropped_without_a_system_font(monkeypatch) -> None:
    monkeypatch.setattr(module, "FONTS", ())
    _, text = module._font(14, "Zoë 李")
    assert text == "Zoe ?"


def test_a_strip_holds_every_silhouette() -> None:
    silhouettes = np.zeros((5, 64, 44), np.uint8)
    silhouettes[:, 10:50, 10:30] = 255
    strip = silhouette_strip(silhouettes, columns=3)
    assert strip.shape == (2 * 66 + 2, 3 * 46 + 2, 3)
    assert np.count_nonzero((strip == 255).all(axis=2)) == 5 * 40 * 20
    with pytest.raises(DataError):
        silhouette_strip(silhouettes[:0])


def test_salient_parts_are_boxed_in_the_frame_that_gave_them() -> None:
    frames = np.array([0, 0, 2, 0], np.int32)  # four parts; nothing from frame 1
    picture = salient_parts(np.full((3, 64, 44), 255, np.uint8), frames, columns=3, zoom=2)
    red = (picture == module.RED).all(axis=2)
    tiles = [red[:, 2 + i * 90 : 2 + i * 90 + 88] for i in range(3)]
    assert tiles[0][2].all()  # the top of parts 0 and 1
    assert tiles[0][2 + 96].all()  # the top of part 3
    assert not tiles[0][2 + 64 + 8].all()
    assert not tiles[1].any()
    assert tiles[2][2 + 64].all()
    assert picture[20, 2 + 90 + 20, 0] == 85  # frame 1 is dim


def test_pictures_are_written_whole(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "new" / "strip.png", FRAME)
    assert cv2.imread(str(path)).shape == FRAME.shape
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        save_picture(tmp_path / "file" / "x.png", FRAME)


def test_answers_differ_in_colour_and_in_dashes() -> None:
    drawn = {}
    for answer in ("known", "unknown", "none"):
        picture = annotate(FRAME, [WalkerView((60.0, 40.0, 40.0, 60.0), "", answer)])
        drawn[answer] = (picture[100, 60:101] == COLOURS[answer]).all(axis=1).mean()
    assert drawn["known"] == 1 > drawn["unknown"] > drawn["none"] > 0.2
    colours = np.array(list(COLOURS.values()), float)
    # seen without red or without green, blue (of BGR) still tells them apart
    assert np.abs(np.diff(np.sort(colours[:, 0]))).min() > 30
