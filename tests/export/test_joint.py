"""Joint projections: written, read back from file and folder, refused for other weights, used."""

import shutil

import numpy as np
import pytest

from cstl_edge.checkpoint.weights import load_checkpoint, read_header
from cstl_edge.errors import ConfigError, ModelError
from cstl_edge.export import matching as matching_module
from cstl_edge.export.export_model import export_model
from cstl_edge.export.folder import attach
from cstl_edge.export.joint import JointProjection, joint_for, read_joint, write_joint
from cstl_edge.model import CstlConfig
from cstl_edge.runtime import load
from cstl_edge.runtime.manifest import Matching, read_manifest

SHA = "ab" * 32


def projection(d=4, p=2, sha=SHA):
    matrix = np.random.default_rng(0).normal(size=(d, p, d)).astype(np.float16)
    return JointProjection(matrix.astype(np.float32), sha, {"people": 7})


def test_a_file_comes_back_as_it_was(tmp_path):
    path = tmp_path / "j.safetensors"
    write_joint(path, projection())
    back = read_joint(path)
    np.testing.assert_array_equal(back.matrix, projection().matrix)
    assert (back.weights_sha256, back.data) == (SHA, {"people": 7})


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "safetensors"), (b"\x08\0\0\0\0\0\0\0{}      ", "expected a file of train/fit_joint")],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "j.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_joint(path)


def test_a_checkpoint_is_no_projection(weights):
    with pytest.raises(ModelError, match="expected a file of train/fit_joint"):
        read_joint(weights)


def test_numbers_that_are_not_finite_are_not_written(tmp_path):
    joint = projection()
    joint.matrix[0, 0, 0] = 1e6  # beyond float16
    with pytest.raises(ModelError, match="NaN or infinity"):
        write_joint(tmp_path / "j.safetensors", joint)


def test_it_is_for_one_network(weights):
    network, _ = load_checkpoint(weights)
    d, p = network.config.embedding, network.config.parts
    joint = projection(d, p)
    joint.require(SHA, None, network.config)
    joint.require("cd" * 32, SHA, network.config)  # adapted from it
    with pytest.raises(ModelError, match="is of the weights abababababab…, expected cdcd"):
        joint.require("cd" * 32, None, network.config)
    with pytest.raises(ModelError, match="expected a joint projection"):
        projection(d, p + 1).require(SHA, None, network.config)


@pytest.fixture
def with_joint(edge, tmp_path):
    """Return an exported folder with a joint row, and its distance."""
    folder = tmp_path / "model"
    shutil.copytree(edge, folder)
    shape = read_manifest(folder).shape
    p, d = shape.parts, shape.embedding
    joint = projection(d, p).matrix
    mean, white = np.zeros((p, d), np.float32), np.stack([np.eye(d, dtype=np.float32)] * p)
    weights = np.array([1] * p + [p], np.float32)
    distance = matching_module.Distance("cosine", weights, mean, white, joint)
    file = matching_module.matching_bytes(distance)
    record = matching_module.Matching(
        distance="cosine",
        weights=tuple(weights.tolist()),
        joint=True,
        file="matching.npz",
        sha256=matching_module.hashlib.sha256(file).hexdigest(),
        data={"joint": {"people": 7}},
    )
    attach(folder, matching=(record, file))
    return folder, distance


def test_a_folder_keeps_its_joint_row_and_gives_it_on(with_joint):
    folder, distance = with_joint
    assert read_manifest(folder).format == 3  # a reader of 2 would compare by the parts alone
    loaded = load(folder).info.distance
    np.testing.assert_array_equal(loaded.joint, distance.joint)
    rows = np.random.default_rng(1).normal(size=(5, *distance.mean.shape)).astype(np.float32)
    np.testing.assert_allclose(loaded.pairwise(rows, rows), distance.pairwise(rows, rows))
    given = read_joint(folder)
    np.testing.assert_array_equal(given.matrix, distance.joint)
    assert given.weights_sha256 == read_manifest(folder).weights_sha256
    assert given.data == {"people": 7}


def test_the_projection_of_a_network_is_given_and_that_of_others_refused(with_joint):
    folder, distance = with_joint
    d, p, _ = distance.joint.shape
    config = CstlConfig(parts=p, embedding=d)
    own = read_manifest(folder).weights_sha256
    assert joint_for(folder, own, {}, config).matrix.shape == distance.joint.shape
    assert joint_for(folder, SHA, {"adapted": {"from": own}}, config).weights_sha256 == own
    with pytest.raises(ModelError, match="expected ababababab"):
        joint_for(folder, SHA, {}, config)


def test_a_folder_without_one_gives_none(edge):
    with pytest.raises(ModelError, match="without a joint projection"):
        read_joint(edge)


def test_a_manifest_that_forgets_the_row_is_refused(with_joint):
    folder, _ = with_joint
    manifest = read_manifest(folder)
    changed = manifest.matching.model_copy(update={"joint": False})
    attach(folder, matching=(changed, None))
    with pytest.raises(ModelError, match="weights of rows; got"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": None, "sha256": None}, "expected a joint row in matching.npz"),
        ({"distance": "euclidean"}, "a joint row and fused walks need the distance cosine"),
        ({"distance": "euclidean", "joint": False, "fused_walks": 4}, "need the distance cosine"),
    ],
)
def test_manifests_that_contradict_themselves_are_refused(with_joint, changes, message):
    folder, _ = with_joint
    changed = read_manifest(folder).matching.model_copy(update=changes)
    attach(folder, matching=(changed, None))
    with pytest.raises(ModelError, match=message):
        load(folder)


def test_fused_walks_are_read_and_need_a_reader_of_format_3(edge, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(edge, folder)
    for fused, form in ((0, 2), (4, 3)):
        attach(folder, matching=(Matching(distance="cosine", fused_walks=fused), None))
        assert read_manifest(folder).format == form
        assert load(folder).info.distance.fused_walks == fused


def test_an_export_measures_with_the_joint_row(weights, tmp_path, monkeypatch):
    """The row weighs as much as all parts; the folder compares as the statistics were measured."""
    network, _ = load_checkpoint(weights)
    p, d = network.config.parts, network.config.embedding
    few = matching_module.WalkersPlan(1, 6, 1, (({"nm": 2}, (0, 90)),))
    others = matching_module.WalkersPlan(50, 24, 2, (({"nm": 2}, (0, 90)),))
    measure = matching_module.measure_matching

    def quick(*args, **kwargs):
        return measure(*args, **kwargs, spread=few, impostors=others, draws=50)

    def drawn(plan, kinds, views, size):
        each = sum(kinds.values()) * len(views)
        people = np.repeat(np.arange(plan.first, plan.first + plan.people), each)
        rng = np.random.default_rng(0)
        yield rng.integers(0, 256, (len(people), plan.windows * 30, *size), np.uint8), people

    monkeypatch.setattr(matching_module, "measure_matching", quick)
    monkeypatch.setattr(matching_module, "rendered", drawn)
    file, digest = tmp_path / "j.safetensors", read_header(weights)[0]["weights_sha256"]
    write_joint(file, projection(d, p, digest))
    given = {"graphs": ("frames", "head"), "simplify": False, "joint": file}
    with pytest.raises(ConfigError, match="for matching by cosine"):
        export_model(weights, tmp_path / "out", **given, matching="euclidean")
    manifest = export_model(weights, tmp_path / "out", **given, matching="cosine")
    assert manifest.matching.joint
    assert manifest.matching.weights == (*[1.0] * p, float(p))
    assert manifest.matching.data["joint"] == {"people": 7}
    distance = load(tmp_path / "out").info.distance
    np.testing.assert_array_equal(distance.joint, read_joint(file).matrix)
