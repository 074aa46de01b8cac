"""Figures 6 and 7 of the paper: points by person, boxes in the chosen frames."""

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import threadpool_limits

from cstl_edge.errors import ConfigError, DataError, ModelError, StorageError
from cstl_edge.evaluation.embeddings import LabelledEmbeddings
from cstl_edge.reproduce import figures
from cstl_edge.runtime.base import Embedded, EncoderInfo


class Chooser:
    """An encoder that chooses frames 1 and 3 for its two parts, or none."""

    info = EncoderInfo("standin", "numpy", "float32", 1, "standin", "", (64, 44), 2, 1, 3)

    def __init__(self, chosen=(1, 3)):
        self.chosen = chosen

    def encode(self, silhouettes, lengths=None):
        return Embedded(np.ones((1, 2, 3), np.float32), np.array([self.chosen], np.int32))


def clusters(people=3, each=12):
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(people), each)
    embeddings = rng.normal(size=(people, 2, 4))[ids] * 10 + rng.normal(size=(len(ids), 2, 4))
    names = np.array(["nm-05", "bg-01", "cl-01"] * (len(ids) // 3))
    return LabelledEmbeddings(
        embeddings.astype(np.float32), ids, names, np.zeros(len(ids), np.int64)
    )


def test_tsne_keeps_people_together():
    pytest.importorskip("sklearn", reason="the `report` extra brings scikit-learn")
    walks = clusters()
    with threadpool_limits(1):
        points, again = (figures.project(walks, perplexity=5, seed=0) for _ in range(2))
    centres = np.stack([points[walks.people == i].mean(axis=0) for i in range(3)])
    nearest = np.linalg.norm(points[:, None] - centres[None], axis=2).argmin(axis=1)
    assert (nearest == walks.people).all()
    assert np.array_equal(points, again)


def test_tsne_needs_fewer_neighbours_than_sequences():
    pytest.importorskip("sklearn", reason="the `report` extra brings scikit-learn")
    with pytest.raises(ConfigError, match="perplexity of 1 to below 36"):
        figures.project(clusters(), perplexity=36)


def test_missing_sklearn_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.manifold", None)
    with pytest.raises(ConfigError, match=r"needs scikit-learn.*\[report\]"):
        figures.project(clusters())


def test_points_are_drawn_in_the_colour_of_their_person(tmp_path):
    walks = clusters()
    points = np.random.default_rng(2).normal(size=(len(walks.people), 2))
    picture = figures.draw_panels([("one", walks, points), ("two", walks, points)])
    figures.save_png(picture, tmp_path / "deep" / "fig6.png")
    with Image.open(tmp_path / "deep" / "fig6.png") as stored:
        pixels = np.asarray(stored)
    assert pixels.shape == (figures.HEAD + figures.PANEL + figures.FOOT, 2 * figures.PANEL, 3)
    colours = figures._colours(walks)
    assert len(set(colours.values())) == 3
    for left in (0, figures.PANEL):  # every person in either panel
        panel = pixels[figures.HEAD : figures.PANEL, left : left + figures.PANEL].reshape(-1, 3)
        for colour in colours.values():
            assert (panel == colour).all(axis=1).sum() > 20


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        figures.save_png(Image.new("RGB", (2, 2)), tmp_path / "file" / "fig6.png")


def test_boxes_stand_in_the_chosen_frames():
    silhouettes = np.full((4, 64, 44), 200, np.uint8)
    picture = figures.salient_picture(Chooser(), silhouettes, columns=4)  # BGR
    red = (picture[..., 2] > 200) & (picture[..., 1] < 100)
    widths = np.array_split(red, 4, axis=1)
    upper, lower = slice(0, picture.shape[0] // 2 - 4), slice(picture.shape[0] // 2 + 4, None)
    assert [bool(w.any()) for w in widths] == [False, True, False, True]
    assert widths[1][upper].any()
    assert not widths[1][lower].any()
    assert widths[3][lower].any()
    assert not widths[3][upper].any()


def test_a_network_without_ssfl_is_refused():
    with pytest.raises(ModelError, match="no SSFL"):
        figures.salient_picture(Chooser((-1, -1)), np.zeros((4, 64, 44), np.uint8))


def test_a_sequence_of_the_data_is_read_by_its_name(data):
    walk = figures.find_sequence("102/bg-01/90", data, (64, 44))
    other = figures.find_sequence("102/bg-01/0", data, (64, 44))
    assert walk.shape == (4, 64, 44)
    assert not np.array_equal(walk, other)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [("nowhere", ConfigError, "PERSON/SEQUENCE/VIEW"), ("7/nm-01/0", DataError, "101 to 104")],
)
def test_a_sequence_that_is_not_there_is_refused(text, error, message, data):
    with pytest.raises(error, match=message):
        figures.find_sequence(text, data, (64, 44))


def drawn(frames):
    """Silhouettes of somebody who stands."""
    walk = np.zeros((frames, 64, 44), np.uint8)
    walk[:, 2:12, 18:26] = walk[:, 12:62, 15:29] = 255
    return walk


def test_a_folder_of_images_is_read_as_a_sequence(tmp_path):
    np.save(tmp_path / "walk.npy", drawn(3))
    assert figures.find_sequence(str(tmp_path / "walk.npy"), "walkers", (64, 44)).shape[0] == 3


def test_people_of_a_figure_come_from_the_data(data, tmp_path):
    class Flat(Chooser):
        def encode(self, silhouettes, lengths=None):
            n = len(silhouettes)
            return Embedded(np.ones((n, 2, 3), np.float32), np.zeros((n, 2), np.int32))

    walks = figures.embedded_people(Flat(), data, tmp_path, people=3)
    assert np.unique(walks.people).tolist() == [101, 102, 103]
    with pytest.raises(ConfigError, match=r"2 to 4.*got 9"):
        figures.embedded_people(Flat(), data, tmp_path, people=9)
