"""Verb `adapt`: refusals before any work, the gallery's consent, what is printed."""

import json
import shutil

import numpy as np
import pytest
from command_line import call

pytest.importorskip("torch")
from cstl_edge.checkpoint.weights import save_checkpoint
from cstl_edge.cli.adapt import shipped_checkpoint
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.runtime.base import EncoderInfo
from cstl_edge.training import adapt as module
from cstl_edge.training.adapt import Adaptation, Figures


class Model:
    info = EncoderInfo("any", "cpu", "float32", 1, "any", "0" * 64, (64, 44), 2, 4, 3)


def bar():
    silhouettes = np.zeros((16, 64, 44), np.uint8)
    silhouettes[:, :, 15:29] = 255
    return silhouettes


@pytest.fixture
def walks(tmp_path):
    folder = tmp_path / "walks"
    for person in ("Ada", "Bo", "Cy"):
        (folder / person).mkdir(parents=True)
        for walk in range(2):
            np.save(folder / person / f"{walk}.npy", bar())
    return folder


@pytest.fixture
def adapted(monkeypatch):
    """An adaptation that reads the walks and trains nothing."""
    seen = []
    figures = [Figures(0.5, x) for x in (0.8, 0.9, 0.9, 0.9)]

    def standin(start, walks, output, **options):
        seen.append(sorted(walk.person for walk in walks((64, 44))))
        output.write_bytes(b"weights")
        return Adaptation(3, 12, 4, *figures, 0.01)

    monkeypatch.setattr(module, "adapt_to_walks", standin)
    return seen


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

    with Gallery.open(database, Model()) as gallery:
        for person in ("ada", "Bo"):
            gallery.enroll(person, np.random.default_rng(0).random((1, 2, 3)), consent="signed",
                           force=True)  # fmt: skip
    words = ("adapt", "--silhouettes", walks, "--gallery", database)
    refused = call(*words, "-o", tmp_path / "one.safetensors")
    assert refused.returncode == 6
    assert "knows no Cy: enroll them with their consent first" in refused.stderr
    shutil.rmtree(walks / "Cy")
    known = call(*words, "-o", tmp_path / "two.safetensors")
    assert known.returncode == 0, known.stderr
    assert adapted[-1] == ["Ada", "Ada", "Bo", "Bo"]


def test_silhouettes_kept_in_the_gallery_are_used(walks, tmp_path, adapted):
    database, silhouettes = tmp_path / "people.db", bar()
    vector = np.random.default_rng(0).random((1, 2, 3))
    with Gallery.open(database, Model()) as gallery:
        for person in ("Ada", "Bo", "Cy"):
            gallery.enroll(person, vector, consent="s", force=True)
    nothing = call("adapt", "--gallery", database, "-o", tmp_path / "zero.safetensors")
    assert nothing.returncode == 6
    assert "keeps no silhouettes of 64x44: enroll with --keep-silhouettes" in nothing.stderr
    with Gallery.open(database, Model()) as gallery:
        for person in ("Ada", "Ada", "Bo"):
            gallery.enroll(person, vector, consent="s", force=True, silhouettes=silhouettes)
    done = call("adapt", "--gallery", database, "-o", tmp_path / "one.safetensors")
    assert done.returncode == 0, done.stderr
    assert adapted[-1] == ["Ada", "Ada", "Bo"]
    both = ("adapt", "--gallery", database, "--silhouettes", walks)
    assert call(*both, "-o", tmp_path / "two.safetensors").returncode == 0
    assert adapted[-1] == ["Ada"] * 4 + ["Bo"] * 3 + ["Cy"] * 2


def test_nothing_given_is_a_usage_error(tmp_path):
    refused = call("adapt", "-o", tmp_path / "x.safetensors")
    assert refused.returncode == 2
    assert "--silhouettes FOLDER or --gallery" in refused.stderr


@pytest.mark.parametrize("named", [False, True])
def test_the_joint_row_of_the_shipped_model_goes_with_its_checkpoint(
    walks, tmp_path, adapted, named
):
    """It decides with what the adapted weights will be exported with, and says so."""
    first = tmp_path / "copy.safetensors"
    shutil.copy(shipped_checkpoint(), first)
    given = ("--first", first) if named else ()
    done = call("adapt", "--silhouettes", walks, "-o", tmp_path / "mine.safetensors", *given)
    folder = shipped_checkpoint().with_suffix("")
    assert f"--joint {folder} -o" in done.stdout


def test_other_weights_have_no_joint_row_of_their_own(walks, tmp_path, adapted):
    first = tmp_path / "other.safetensors"
    save_checkpoint(first, Cstl(CstlConfig(widths=(4, 4, 4, 4), parts=16, embedding=4)))
    output = tmp_path / "mine.safetensors"
    given = ("adapt", "--silhouettes", walks, "-o", output, "--first", first)
    done = call(*given)
    assert done.returncode == 0, done.stderr
    assert "--joint" not in done.stdout
