"""Calibration and evaluation data: Walkers, or silhouettes that the user names."""

import cv2
import numpy as np
import pytest

from cstl_edge.errors import DataError, ExportError
from cstl_edge.export.quantization import calibration_data
from cstl_edge.export.quantization.calibration_data import gather
from cstl_edge.walkers import collection


@pytest.fixture
def rendered(monkeypatch):
    """Do not render: record which Walkers are requested, and give grey ones."""
    requests = []

    def generate(ids, **settings):
        requests.append((list(ids), settings))
        m = len(ids) * sum(settings["recordings"].values()) * len(settings["views_deg"])
        grey = np.full((m, settings["frames"], *settings["size"]), 99, np.uint8)
        return collection.WalkersSet(grey, *[np.zeros(m, np.int64)] * 4)

    monkeypatch.setattr(collection, "generate", generate)
    return requests


def walk(folder, frames):
    folder.mkdir(parents=True)
    picture = np.zeros((64, 44), np.uint8)
    picture[4:60, 15:30] = 255
    for i in range(frames):
        cv2.imwrite(str(folder / f"{i}.png"), picture)


def test_calibration_and_evaluation_walkers_are_distinct_and_untrained(rendered):
    data = gather((64, 44), people=3)
    (calibrated, _), (evaluated, settings) = rendered
    assert evaluated == [930_000, 930_001, 930_002]
    assert not set(calibrated) & set(evaluated)
    assert min(calibrated) >= 900_000
    assert settings["recordings"] == {"nm": 6, "bg": 2, "cl": 2}
    sequences = 3 * 10 * len(calibration_data.VIEWS_DEG)
    assert data.evaluation.silhouettes.shape == (sequences, 30, 64, 44)
    assert data.report["sequences"] == len(data.evaluation.silhouettes)
    assert "930000 to 930002" in data.report["judged_on"]
    assert "940000 to 940005" in data.report["calibrated_on"]
    assert data.report["calibration_frames"] == sum(map(len, data.calibration))


def test_silhouettes_that_the_user_names(rendered, tmp_path):
    walk(tmp_path / "one", 3)
    data = gather((64, 44), 2, tmp_path / "one")
    assert [len(sequence) for sequence in data.calibration] == [3]
    assert len(rendered) == 1
    assert data.report["calibrated_on"] == "one"


def test_a_folder_of_walks(rendered, tmp_path):
    walk(tmp_path / "walks" / "a", 2)
    walk(tmp_path / "walks" / "b", 4)
    data = gather((64, 44), 2, tmp_path / "walks")
    assert [len(sequence) for sequence in data.calibration] == [2, 4]
    assert data.report["calibration_frames"] == 6


def test_nothing_to_calibrate_on(rendered, tmp_path):
    with pytest.raises(DataError, match="no silhouettes in"):
        gather((64, 44), 2, tmp_path)
    with pytest.raises(DataError, match=r"no silhouettes at .*missing"):
        gather((64, 44), 2, tmp_path / "missing")
    assert rendered == []


def test_size_without_walkers_is_refused():
    with pytest.raises(ExportError, match=r"judged on Walkers: .*\(128, 88\), got \(32, 22\)"):
        gather((32, 22))


def test_one_person_is_refused(rendered):
    with pytest.raises(ExportError, match="at least 2 people to judge on; got 1"):
        gather((64, 44), people=1)
    assert rendered == []


def test_default_data_are_rendered_walkers(monkeypatch):
    monkeypatch.setattr(calibration_data, "FRAMES", 2)
    monkeypatch.setattr(calibration_data, "CALIBRATION_FRAMES", 1)
    monkeypatch.setattr(calibration_data, "CALIBRATION_PEOPLE", 1)
    monkeypatch.setattr(calibration_data, "VIEWS_DEG", (90,))
    data = gather((64, 44), people=2)
    assert data.evaluation.silhouettes.shape == (20, 2, 64, 44)
    assert data.evaluation.silhouettes.any(axis=(1, 2, 3)).all()
    assert len(data.calibration) == 3
