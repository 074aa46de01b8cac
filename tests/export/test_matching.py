"""Matching statistics: measured on few Walkers, written, read back, used, refused when damaged."""

import dataclasses
import json

import numpy as np
import pytest

from cstl_edge.distance import Distance
from cstl_edge.errors import ModelError
from cstl_edge.evaluation.confidence import reliability
from cstl_edge.export import matching as matching_module
from cstl_edge.export.folder import attach
from cstl_edge.export.matching import WalkersPlan, measure_matching
from cstl_edge.gallery.confidence import ConfidenceCurve
from cstl_edge.gallery.thresholds import ImpostorTable
from cstl_edge.runtime import load
from cstl_edge.runtime.manifest import read_manifest

SPREAD = WalkersPlan(1, 6, 1, (({"nm": 2}, (0, 90)),))
IMPOSTORS = WalkersPlan(50, 24, 2, (({"nm": 2}, (0, 90)),))


@pytest.fixture
def drawn(monkeypatch):
    """Draw people as noise of their own, in place of Walkers: this is about what follows."""

    def rendered(plan, kinds, views, size):
        each = sum(kinds.values()) * len(views)
        people = np.repeat(np.arange(plan.first, plan.first + plan.people), each)
        silhouettes = np.zeros(
            (len(people), plan.windows * matching_module.WINDOW, *size), np.uint8
        )
        for row, person in zip(silhouettes, people, strict=True):
            row[:] = np.random.default_rng(person).integers(0, 256, size)
            row[:, : person % 7] //= 2
        yield silhouettes, people

    monkeypatch.setattr(matching_module, "rendered", rendered)


def embed(windows):
    """Embed as the brightness of rows of parts, with a fault of its own in every window."""
    n, s, h, w = windows.shape
    rng = np.random.default_rng(int(windows.sum()) % 1000)
    rows = windows.reshape(n, s, 2, h // 2, 2, w // 2).mean(axis=(1, 3)).reshape(n, 2, -1)
    return (rows[:, :, :8] / 50 + rng.normal(0, 0.1, (n, 2, 8))).astype(np.float32)


def measured(name="cosine"):
    return measure_matching(
        name, embed, (64, 44), lambda text: None, spread=SPREAD, impostors=IMPOSTORS, draws=400
    )


def test_statistics_are_those_of_the_people(drawn):
    statistics = measured()
    assert statistics.distance.name == "cosine"
    assert statistics.distance.whitening.shape == (2, 8, 8)
    assert statistics.record.data["spread"] == "Walkers 1 to 6, 4 walks of 30 frames each"
    table = ImpostorTable(statistics.impostors)
    assert table.threshold.shape == (2, 3, 6, 6)
    assert table.threshold_at(4, 0.01, 1, 1).value < table.threshold_at(4, 0.1, 1, 1).value
    curve = ConfidenceCurve(statistics.confidence)
    assert curve.is_nearest(0.05, 0.5, 2, 4) > curve.is_nearest(1.0, 0.05, 2, 4)
    rows = statistics.confidence["reliability"]
    off = [abs(row["confidence"] - row["right"]) for row in rows]
    assert np.average(off, weights=[row["searches"] for row in rows]) < 0.15


def test_euclidean_has_thresholds_and_no_file(drawn):
    statistics = measured("euclidean")
    assert statistics.file is None
    assert statistics.distance.whitening is None
    assert ImpostorTable(statistics.impostors).by_seen


def test_reliability_compares_by_bin():
    confidence = np.array([0.05, 0.07, 0.95, 1.0])
    rows = reliability(confidence, np.array([False, True, True, True]))
    assert [(row["searches"], row["right"]) for row in rows] == [(2, 0.5), (2, 1.0)]


@pytest.fixture
def attached(exported):
    """Return an exported folder of 16 parts with matching statistics, and its distance."""
    shape = read_manifest(exported).shape
    rng = np.random.default_rng(0)
    p, d = shape.parts, shape.embedding
    whitening = np.eye(d, dtype=np.float32) + rng.normal(0, 0.1, (p, d, d)).astype(np.float32)
    distance = Distance("cosine", None, rng.normal(size=(p, d)).astype(np.float32), whitening)
    file = matching_module.matching_bytes(distance)
    digest = matching_module.hashlib.sha256(file).hexdigest()
    record = matching_module.Matching(distance="cosine", file="matching.npz", sha256=digest)
    attach(exported, matching=(record, file))
    return exported, distance


def test_a_folder_keeps_its_distance(attached):
    folder, distance = attached
    assert read_manifest(folder).format == 2
    loaded = load(folder).info.distance
    assert loaded.name == "cosine"
    np.testing.assert_allclose(loaded.mean, distance.mean, atol=2e-3)
    np.testing.assert_allclose(loaded.whitening, distance.whitening, atol=2e-3)


def test_a_changed_file_is_refused(attached):
    folder, _ = attached
    data = bytearray((folder / "matching.npz").read_bytes())
    data[-40] ^= 1
    (folder / "matching.npz").write_bytes(data)
    with pytest.raises(ModelError, match=r"matching\.npz is not the exported one"):
        load(folder)


def test_a_missing_file_is_refused(attached):
    folder, _ = attached
    (folder / "matching.npz").unlink()
    with pytest.raises(ModelError, match=r"matching\.npz is missing"):
        load(folder)


def test_arrays_of_another_network_are_refused(attached):
    folder, distance = attached
    other = dataclasses.replace(distance, mean=distance.mean[:1])
    file = matching_module.matching_bytes(other)
    digest = matching_module.hashlib.sha256(file).hexdigest()
    (folder / "matching.npz").write_bytes(file)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["matching"]["sha256"] = digest
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"matching\.npz: expected .*mean is \(1, "):
        load(folder)


def test_an_older_reader_would_refuse_the_folder(attached):
    """Format 1 knows no `matching` and would compare by the wrong distance: format is 2."""
    folder, _ = attached
    assert json.loads((folder / "manifest.json").read_text())["format"] == 2
