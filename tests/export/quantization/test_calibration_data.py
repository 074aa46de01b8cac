"""The data of reduced precisions: Walkers, or the silhouettes that the user names."""

import cv2
import numpy as np
import pytest

from cstl_edge.errors import DataError, ExportError
from cstl_edge.export.quantization import calibration_data
from cstl_edge.export.quantization.calibration_data import gather
from cstl_edge.walkers import collection


@pytest.fixture
def made(monkeypatch):
    """Do not render: note which Walkers are asked for, and give grey ones."""
    asked = []

    def generate(ids, **settings):
        asked.append((list(ids), settings))
        m = len(ids) * sum(settings["recordings"].values()) * len(settings["views_deg"])
        grey = np.full((m, settings["frames"], *settings["size"]), 99, np.uint8)
        return collection.WalkersSet(grey, *[np.zeros(m, np.int64)] * 4)

    monkeypatch.setattr(collection, "generate", generate)
    return asked


def walk(folder, frames):
    folder.mkdir(parents=True)
    picture = np.zeros((64, 44), np.uint8)
    picture[4:60, 15:30] = 255
    for i in range(frames):
        cv2.imwrite(str(folder / f"{i}.png"), picture)


def test_walkers_of_two_kinds_and_none_that_were_trained_on(made):
    found = gather((64, 44), people=3)
    (calibrated, _), (judged, settings) = made
    assert judged == [930_000, 930_001, 930_002]
    assert not set(calibrated) & set(judged)
    assert min(calibrated) >= 900_000
    assert settings["recordings"] == {"nm": 6, "bg": 2, "cl": 2}
    sequences = 3 * 10 * len(calibration_data.VIEWS_DEG)
    assert found.evaluation.silhouettes.shape == (sequences, 30, 64, 44)
    assert found.report["sequences"] == len(found.evaluation.silhouettes)
    assert "930000 to 930002" in found.report["judged_on"]
    assert "940000 to 940005" in found.report["calibrated_on"]
    assert found.report["calibration_frames"] == sum(map(len, found.calibration))


def test_silhouettes_that_the_user_names(made, tmp_path):
    walk(tmp_path / "one", 3)
    found = gather((64, 44), 2, tmp_path / "one")
    assert [len(one) for one in found.calibration] == [3]
    assert len(made) == 1
    assert found.report["calibrated_on"] == "one"


def test_a_folder_of_walks(made, tmp_path):
    walk(tmp_path / "walks" / "a", 2)
    walk(tmp_path / "walks" / "b", 4)
    found = gather((64, 44), 2, tmp_path / "walks")
    assert [len(one) for one in found.calibration] == [2, 4]
    assert found.report["calibration_frames"] == 6


def test_nothing_to_calibrate_on(made, tmp_path):
    with pytest.raises(DataError, match="no silhouettes in"):
        gather((64, 44), 2, tmp_path)
    with pytest.raises(DataError, match=r"no silhouettes at .*missing"):
        gather((64, 44), 2, tmp_path / "missing")
    assert made == []


def test_what_walkers_are_not_made_in():
    with pytest.raises(ExportError, match=r"judged on Walkers: .*\(128, 88\), got \(32, 22\)"):
        gather((32, 22))


def test_nobody_to_be_taken_for(made):
    with pytest.raises(ExportError, match="at least 2 people to judge on; got 1"):
        gather((64, 44), people=1)
    assert made == []


def test_walkers_indeed(monkeypatch):
    monkeypatch.setattr(calibration_data, "FRAMES", 2)
    monkeypatch.setattr(calibration_data, "CALIBRATION_FRAMES", 1)
    monkeypatch.setattr(calibration_data, "CALIBRATION_PEOPLE", 1)
    monkeypatch.setattr(calibration_data, "VIEWS_DEG", (90,))
    found = gather((64, 44), people=2)
    assert found.evaluation.silhouettes.shape == (20, 2, 64, 44)
    assert found.evaluation.silhouettes.any(axis=(1, 2, 3)).all()
    assert len(found.calibration) == 3
