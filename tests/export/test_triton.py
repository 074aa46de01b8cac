"""Triton: the repository's files, its configuration by Triton's own schema, engines with a plugin.

`tests/contract/triton.py` runs a real server.
"""

import base64
import json
import shutil
import sys
import types

import numpy as np
import pytest
from command_line import call
from golden_export import GOLDEN
from standin_engines import seal

from cstl_edge.errors import ConfigError, ExportError, ModelError, StorageError
from cstl_edge.export import triton_model
from cstl_edge.export.triton import GRAPHS, write_repository
from cstl_edge.runtime import load

PLUGIN = {"name": "CstlPartGather", "version": "2", "namespace": "cstl_edge", "sha256": "0" * 64}


@pytest.fixture
def folder(tmp_path):
    """A copy of the golden export."""
    return shutil.copytree(GOLDEN / "tiny_reduced", tmp_path / "model")


def config_of(repository, model):
    """Return a configuration, read by the schema that Triton's client brings."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format

    return text_format.Parse(
        (repository / model / "config.pbtxt").read_text(), schema.ModelConfig()
    )


def test_onnx_graphs_are_the_models(folder, tmp_path):
    repository = tmp_path / "models"
    written = write_repository(folder, repository)
    assert written == {"cstl_frames": "onnxruntime", "cstl_head": "onnxruntime"}
    for graph in GRAPHS:
        model = (repository / f"cstl_{graph}" / "1" / "model.onnx").read_bytes()
        assert model == (folder / f"{graph}.onnx").read_bytes()
        assert config_of(repository, f"cstl_{graph}").backend == "onnxruntime"


def test_the_configuration_has_the_graphs_inputs_and_the_manifest(folder, tmp_path):
    repository = tmp_path / "models"
    write_repository(folder, repository, "python", "gait")
    frames, head = (config_of(repository, f"gait_{graph}") for graph in GRAPHS)
    assert (frames.name, frames.backend, frames.max_batch_size) == ("gait_frames", "python", 32)
    assert [(i.name, list(i.dims)) for i in frames.input] == [("silhouettes", [16, 12])]
    assert [(o.name, list(o.dims)) for o in frames.output] == [("features", [4, 16])]
    features, lengths = head.input
    assert (features.name, list(features.dims)) == ("features", [-1, 4, 16])
    assert (lengths.name, list(lengths.dims), list(lengths.reshape.shape)) == ("lengths", [1], [])
    assert [list(o.dims) for o in head.output] == [[4, 8], [4]]
    assert head.dynamic_batching.max_queue_delay_microseconds > 0
    manifest = base64.b64decode(frames.parameters["file.manifest.json"].string_value)
    assert json.loads(manifest) == json.loads((folder / "manifest.json").read_text())
    assert (repository / "gait_head" / "1" / "model" / "slide.onnx").exists()
    compile((repository / "gait_head" / "1" / "model.py").read_text(), "model.py", "exec")


def test_engines_are_taken_where_they_hold_no_plugin(folder, tmp_path):
    place = seal(folder, precision="fp16")
    written = write_repository(folder, tmp_path / "models")
    assert written == {"cstl_frames": "tensorrt_plan", "cstl_head": "tensorrt_plan"}
    plan = (tmp_path / "models" / "cstl_head" / "1" / "model.plan").read_bytes()
    assert plan == (place / "head.plan").read_bytes()
    assert config_of(tmp_path / "models", "cstl_head").platform == "tensorrt_plan"
    parameters = config_of(tmp_path / "models", "cstl_frames").parameters
    assert base64.b64decode(parameters["file.precision"].string_value) == b"fp16"


def test_engines_with_the_plugin_are_refused_with_the_command(folder, tmp_path):
    seal(folder, plugin=PLUGIN)
    with pytest.raises(ExportError, match="--plugin off"):
        write_repository(folder, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_what_cannot_be_written_leaves_nothing(folder, tmp_path):
    with pytest.raises(ConfigError, match="expected a kind of auto"):
        write_repository(folder, tmp_path / "models", "pytorch")
    with pytest.raises(ExportError, match=r"no engines .* cstl-edge build"):
        write_repository(folder, tmp_path / "models", "tensorrt_plan")
    (tmp_path / "models").write_text("a file")
    with pytest.raises(StorageError):
        write_repository(folder, tmp_path / "models")
    assert (tmp_path / "models").read_text() == "a file"
    assert {path.name for path in tmp_path.iterdir()} == {"model", "models"}
    (folder / "head.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError):
        write_repository(folder, tmp_path / "other")


def test_the_served_model_computes_a_batch_of_calls(folder, tmp_path, monkeypatch):
    """`model.py` with a stand-in for the server's module: calls of several shapes at once."""

    class Tensor:
        def __init__(self, name, array):
            self.name, self.array = name, array

        def as_numpy(self):
            return self.array

    utils = types.SimpleNamespace(
        Tensor=Tensor,
        TritonError=lambda message: message,
        InferenceResponse=lambda tensors, error=None: (
            {t.name: t.array for t in tensors},
            error,
        ),
        get_input_tensor_by_name=lambda request, name: Tensor(name, request[name]),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    repository = tmp_path / "models"
    write_repository(folder, repository, "python")
    model = triton_model.TritonPythonModel()
    config = {"parameters": {"graph": {"string_value": "head"}}}
    place = str(repository / "cstl_head")
    model.initialize(
        {"model_config": json.dumps(config), "model_repository": place, "model_version": "1"}
    )
    rng = np.random.default_rng(0)
    requests = [
        {
            "features": rng.random((n, s, 4, 16), dtype=np.float32),
            "lengths": np.full((n, 1), length, np.int32),
        }
        for n, s, length in ((1, 6, 6), (2, 9, 4), (3, 6, 2), (1, 6, 7))
    ]
    *answers, failed = model.execute(requests)
    local = load(folder, "onnxruntime", precision="float32")
    for request, (outputs, error) in zip(requests[:3], answers, strict=True):
        expected = local.head(request["features"], request["lengths"][:, 0])
        np.testing.assert_allclose(outputs["embedding"], expected.embedding, atol=1e-6)
        np.testing.assert_array_equal(outputs["salient_frames"], expected.salient_frames)
        assert error is None
    assert failed[0] == {}
    assert "lengths in 1..6" in failed[1]
    model.finalize()


def test_a_repository_is_replaced_whole(folder, tmp_path):
    repository = tmp_path / "models"
    write_repository(folder, repository, "python")
    write_repository(folder, repository, "onnxruntime")
    assert not (repository / "cstl_head" / "1" / "model.py").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"model", "models"}


def test_the_verb_writes_a_repository_of_an_exported_folder(folder, tmp_path):
    done = call("export", folder, "--triton", tmp_path / "models")
    assert (done.returncode, "cstl_head: onnxruntime" in done.stdout) == (0, True)
    again = call("export", folder, "--triton", tmp_path / "models")
    assert (again.returncode, "--overwrite" in again.stderr) == (2, True)
    without = call("export", folder)
    assert (without.returncode, "-o FOLDER" in without.stderr) == (2, True)
