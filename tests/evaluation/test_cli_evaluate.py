"""Command `eval`: options, output formats, and a whole run from a tree of PNGs to the table."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from shard_files import write_shard
from typer.testing import CliRunner

from cstl_edge import runtime
from cstl_edge.cli.app import app
from cstl_edge.distance import Distance
from cstl_edge.errors import ConfigError, DataError, ModelError

from .conftest import CASIA_B_NAMES

TINY = Path(__file__).parents[1] / "golden" / "tiny"
PEOPLE, VIEWS, FRAMES = (75, 76, 77, 78), (0, 90), 4


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Four people of CASIA-B's layout at the tiny network's size, each a pattern of their own."""
    rng = np.random.default_rng(0)
    rows = [(p, n, v) for p in PEOPLE for n in CASIA_B_NAMES for v in VIEWS]
    own = {p: rng.random((16, 12)) for p in PEOPLE}
    stack = [[(255 * (own[p] > rng.random((16, 12)))) for _ in range(FRAMES)] for p, _, _ in rows]
    people, names, views = zip(*rows, strict=True)
    folder = tmp_path_factory.mktemp("data") / "shards"
    silhouettes = np.array(stack, np.uint8)
    write_shard(folder / "all", silhouettes, people=people, sequences=names, views_deg=views)
    return folder


@pytest.fixture(scope="module")
def load():
    """Open each model once: a folder that is not shipped takes a process and a second."""

    real = runtime.load

    @cache
    def opened(*words, **options):
        encoder = real(*words, **options)
        encoder.close = lambda: None
        return encoder

    return opened


@pytest.fixture
def call(tmp_path, shards, load, monkeypatch):
    """Run the verb on the tiny network; an error of ours is raised."""
    monkeypatch.setattr(runtime, "load", load)

    def run(*words, model=TINY, data=shards):
        options = ["--data", str(data), "--workdir", str(tmp_path / "work"), *map(str, words)]
        done = CliRunner().invoke(app, ["eval", str(model), *options])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        if done.exit_code == ConfigError.exit_code:
            raise ConfigError(done.output)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def test_the_models_own_distance_is_that_of_its_manifest(call, load, monkeypatch):
    plain = json.loads(call("--json"))
    assert plain["distance"] == "euclidean"
    encoder = load(TINY, "auto", precision=None)
    own = replace(encoder.info, distance=Distance("cosine"))
    monkeypatch.setattr(encoder, "info", own)
    cosine = json.loads(call("--json", "--distance", "model"))
    assert cosine["distance"] == "cosine"
    assert cosine["mean"] != plain["mean"]
    assert json.loads(call("--json"))["mean"] == plain["mean"]


def test_text_markdown_and_json_agree(call, tmp_path):
    record = json.loads(call("--json", "--out", tmp_path / "records.jsonl"))
    assert record["protocol"] == "casia-b"
    assert (record["people"], record["gallery_sequences"]) == (4, 4 * 4 * 2)
    assert record["weights_sha256"].startswith("0ffe97bc")
    assert record["backend"] == "onnxruntime"
    written = json.loads((tmp_path / "records.jsonl").read_text())
    assert written["conditions"] == record["conditions"]
    mean = f"{100 * record['mean']['rank-1']:.1f}"
    for words in ((), ("--markdown",)):
        printed = call(*words)
        assert "tiny (onnxruntime float32, weights 0ffe97bc2c52)" in printed
        lines = [line for line in printed.splitlines() if "Mean" in line and "°" not in line]
        assert mean in lines[0]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_each_precision_has_separate_embeddings(call, tmp_path, precision):
    """Embeddings of float32 never serve another precision."""
    reduced = TINY.with_name("tiny_reduced")
    first = json.loads(call("--precision", "float32", "--json", model=reduced))
    other = json.loads(call("--precision", precision, "--json", model=reduced))
    assert [first["precision"], other["precision"]] == ["float32", precision]
    assert first["weights_sha256"] == other["weights_sha256"]
    arrays = [np.load(folder / "embeddings.npy") for folder in (tmp_path / "work").iterdir()]
    assert len(arrays) == 2
    assert not np.array_equal(*arrays)
    assert np.allclose(*arrays, rtol=0.3, atol=0.3 * np.abs(arrays[0]).max())


def test_protocols_share_one_folder_of_embeddings(call, tmp_path):
    for protocol in ("casia-b", "gait3d", "open-set"):
        call("--protocol", protocol)
    (folder,) = (tmp_path / "work").iterdir()
    assert (folder / "det.png").read_bytes().startswith(b"\x89PNG")
    points = json.loads((folder / "det.json").read_text())
    assert {"fpir", "fnir", "threshold"} == set(points[0])


def test_fpir_option_sets_the_rates(call):
    record = json.loads(call("--protocol", "open-set", "--fpir", "0.05,0.5", "--json"))
    assert [row["fpir_wanted"] for row in record["errors"]] == [0.05, 0.5]


def test_records_are_appended_to_records_alone(call, tmp_path):
    out = tmp_path / "records.jsonl"
    for _ in range(2):
        call("--out", out)
    assert len(out.read_text().splitlines()) == 2
    out.write_text('{"of": "somebody else"}\n')
    with pytest.raises(ConfigError, match="--overwrite"):
        call("--out", out)
    call("--out", out, "--overwrite")
    (line,) = out.read_text().splitlines()
    assert json.loads(line)["benchmark"] == "evaluation"


def test_short_sequences_fail_to_enrol(call):
    record = json.loads(call("--min-frames", FRAMES + 1, "--json"))
    assert record["failed_to_enrol"]["rate"] == 1.0
    assert record["mean"]["rank-1"] == 0.0


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--protocol", "casiab"], ConfigError, "casia-b"),
        (["--fpir", "often"], ConfigError, "rates such as 0.01"),
        (["--fpir", "1"], ConfigError, "between 0 and 1"),
        (["--protocol", "ou-mvlp"], DataError, "got 0 sequences for the gallery"),
        (["--split", "first-5153"], ConfigError, "split"),
        (["--precision", "fp8"], ConfigError, "fp16"),
        (["--min-frames", "9", "--max-frames", "8"], ConfigError, "max_frames >= min_frames"),
    ],
)
def test_invalid_options_are_refused(call, words, error, message):
    with pytest.raises(error, match=message):
        call(*words)


def test_mismatched_or_missing_model_and_data_are_refused(call, tmp_path):
    folder = tmp_path / "other"
    small = np.full((1, 2, 8, 8), 255, np.uint8)
    write_shard(folder / "all", small, people=[1], sequences=["nm-01"], views_deg=[0])
    with pytest.raises(DataError, match="takes silhouettes of 16x12; this data has 8x8"):
        call(data=folder)
    with pytest.raises(DataError, match="nowhere"):
        call(data=tmp_path / "nowhere")
    with pytest.raises(ModelError):
        call(model=tmp_path / "nowhere")


def walk(pen, step, person):
    """A walker whose width and stride are their own."""
    swing = (4 + 2 * person) * np.sin(step)
    pen.ellipse([150, 60, 170, 80], fill=255)
    pen.rectangle([150 - person, 78, 170 + person, 130], fill=255)
    for foot in (160 + swing, 160 - swing):
        pen.polygon([(152, 128), (168, 128), (foot + 5, 190), (foot - 5, 190)], fill=255)


@pytest.mark.parametrize("kind", ["casia-b", "ou-mvlp"])
def test_prepared_png_tree_is_evaluated_on_its_test_people(tmp_path, kind, monkeypatch):
    """The test people alone are evaluated, by the shipped model, with the right divisor."""
    from cstl_edge.data.importing.prepare import prepare
    from cstl_edge.data.importing.settings import PrepareSettings

    tree, views = tmp_path / "tree", (0, 90)
    people = {"casia-b": (74, 75, 76), "ou-mvlp": (1, 2, 4)}[kind]
    names = {"casia-b": ("nm-01", "nm-05"), "ou-mvlp": ("00", "01")}[kind]
    for place, person in enumerate(people):
        for name in names:
            for view in views:
                folder = {
                    "casia-b": tree / f"{person:03d}" / name / f"{view:03d}",
                    "ou-mvlp": tree / f"Silhouette_{view:03d}-{name}" / f"{person:05d}",
                }[kind]
                folder.mkdir(parents=True)
                for step in range(3):
                    image = Image.new("L", (320, 240))
                    walk(ImageDraw.Draw(image), step, 3 * place + 1)
                    stem = f"{person:03d}-{name}-{view:03d}-{step + 1:03d}"
                    image.save(folder / f"{stem if kind == 'casia-b' else f'{step:04d}'}.png")
    settings = PrepareSettings(dataset=kind, size=(64, 44), partial=True)
    prepare(tree, tmp_path / "data", settings, workers=0)
    monkeypatch.chdir(tmp_path)
    words = ["eval", "--data", str(tmp_path / "data"), "--json"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    record = json.loads(done.stdout)
    assert (record["protocol"], record["kind"], record["people"]) == (kind, kind, 2)
    assert record["probe_sequences"] == record["gallery_sequences"] == 4
    # both views show the same walk, so that every search across views succeeds
    assert record["mean"]["rank-1"] == 1.0
    text = CliRunner().invoke(app, words[:-1], catch_exceptions=False).stdout
    assert f"2 of the { ({'casia-b': 50, 'ou-mvlp': 5154}[kind]) } people" in text
