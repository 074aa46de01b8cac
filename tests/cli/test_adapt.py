"""Verb `adapt`: refusals before any work, the gallery's consent, what is printed."""

import json
import shutil

import numpy as np
import pytest
from command_line import call

pytest.importorskip("torch")
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.runtime.base import EncoderInfo
from cstl_edge.training import adapt as module
from cstl_edge.training.adapt import Adaptation, Figures


@pytest.fixture
def walks(tmp_path):
    folder = tmp_path / "walks"
    for person in ("Ada", "Bo", "Cy"):
        (folder / person).mkdir(parents=True)
        for walk in range(2):
            np.save(folder / person / f"{walk}.npy", np.full((16, 64, 44), 255, np.uint8))
    return folder


@pytest.fixture
def adapted(monkeypatch):
    """An adaptation that reads the walks and trains nothing."""
    figures = [Figures(0.5, x) for x in (0.8, 0.9, 0.9, 0.9)]

    def standin(start, walks, output, **options):
        assert len(walks((64, 44))) == 6
        output.write_bytes(b"weights")
        return Adaptation(3, 12, 4, *figures, 0.01)

    monkeypatch.setattr(module, "adapt_to_walks", standin)


def test_figures_and_the_next_command_are_printed(walks, tmp_path, adapted):
    output = tmp_path / "mine.safetensors"
    done = call("adapt", "--silhouettes", walks, "-o", output)
    assert done.returncode == 0, done.stderr
    assert "0.800 -> 0.900" in done.stdout
    assert f"cstl-edge export {output}" in done.stdout
    output.unlink()
    record = json.loads(call("adapt", "--silhouettes", walks, "-o", output, "--json").stdout)
    assert record["own_after"] == {"rank1": 0.5, "auc": 0.9}


def test_existing_output_and_missing_folder_are_refused(walks, tmp_path, adapted):
    output = tmp_path / "mine.safetensors"
    output.write_bytes(b"precious")
    refused = call("adapt", "--silhouettes", walks, "-o", output)
    assert refused.returncode == 2
    assert output.read_bytes() == b"precious"
    missing = call("adapt", "--silhouettes", tmp_path / "no", "-o", tmp_path / "x.safetensors")
    assert missing.returncode == 3
    assert "expected a folder per person" in missing.stderr


def test_people_whom_the_gallery_does_not_know_are_refused(walks, tmp_path, adapted):
    database = tmp_path / "people.db"

    class Model:
        info = EncoderInfo("any", "cpu", "float32", 1, "any", "0" * 64, (64, 44), 2, 4, 3)

    with Gallery.open(database, Model()) as gallery:
        for person in ("ada", "Bo"):
            gallery.enroll(person, np.random.default_rng(0).random((1, 2, 3)), consent="signed",
                           force=True)  # fmt: skip
    words = ("adapt", "--silhouettes", walks, "--gallery", database)
    refused = call(*words, "-o", tmp_path / "one.safetensors")
    assert refused.returncode == 6
    assert "knows no Cy: enrol them with their consent first" in refused.stderr
    shutil.rmtree(walks / "Cy")  # the stand-in still wants six walks
    np.save(walks / "Ada" / "2.npy", np.full((16, 64, 44), 255, np.uint8))
    np.save(walks / "Bo" / "2.npy", np.full((16, 64, 44), 255, np.uint8))
    known = call(*words, "-o", tmp_path / "two.safetensors")
    assert known.returncode == 0, known.stderr
