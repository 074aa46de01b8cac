"""What is refused before a builder sees it: graphs that are not ours, plugins that are not ours."""

import hashlib
import json

import onnx
import pytest
import standin_site
import standin_tensorrt
from onnx import TensorProto

from cstl_edge.errors import ModelError
from cstl_edge.export.tensorrt.build import BuildOptions, Sizes, build_engines, profiles
from cstl_edge.export.tensorrt.builder import PlanRequest, build_plan
from cstl_edge.runtime import graph_format, model_check
from cstl_edge.runtime.manifest import read_manifest

SIZES = Sizes(walkers=8, window=6, frames=12)


def spoilt(change):
    """Return what makes of the bytes of a graph those of a changed one."""

    def make(data):
        model = onnx.load_model_from_string(data)
        change(model)
        return model.SerializeToString()

    return make


def external(model):
    tensor = next(t for t in model.graph.initializer if t.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


GRAPHS = {
    "truncated": (lambda data: data[: len(data) // 2], "expected an ONNX file"),
    "another opset": (
        spoilt(lambda m: setattr(m.opset_import[0], "version", 18)),
        "expected opset",
    ),
    "no function body": (spoilt(lambda m: m.ClearField("functions")), "has no function body"),
    "external data": (spoilt(external), "expected all weights inside the file"),
    "wrong inputs": (spoilt(lambda m: setattr(m.graph.input[0], "name", "x")), "expected inputs"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_is_not_ours_never_reaches_the_builder(folder, machine, monkeypatch, name):
    """Its sha256 is right, so only a look inside tells; here that is no child's, for speed."""
    change, message = GRAPHS[name]
    data = change((folder / "head.onnx").read_bytes())
    (folder / "head.onnx").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["head.onnx"] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    state, asked = machine(), []

    def look(graphs, shape):
        for file, content in graphs.items():
            graph_format.check_graph(file, content, shape)

    monkeypatch.setattr(model_check, "probe", look)
    monkeypatch.setattr(
        "cstl_edge.export.tensorrt.build.run_child", lambda *request: asked.append(request)
    )
    with pytest.raises(ModelError, match=rf"^head\.onnx: .*{message}"):
        build_engines(folder, BuildOptions(sizes=SIZES, plugin="off"))
    assert not asked
    assert state.deserialised == 0
    assert not (folder / "engines").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state, path: path.unlink(), "cannot be read"),
        (lambda state, path: state.registry.libraries.clear(), "of another TensorRT or processor"),
        (
            lambda state, path: state.registry.creators.add(standin_site.CREATOR),
            "already registered in this process, by another library",
        ),
    ],
    ids=["missing", "of another major version", "already registered"],
)
def test_a_plugin_that_is_not_ours_ends_a_build_before_it_begins(
    folder, tmp_path, monkeypatch, spoil, message
):
    library = tmp_path / "libcstl_part_gather_trt10.so"
    library.write_bytes(b"plugin")
    monkeypatch.setattr("cstl_edge.runtime.tensorrt.library._loaded", {})
    state, built = standin_site.state_of({"plugins": [str(library)]}), []
    state.build = lambda logger, config: built.append(config)
    spoil(state, library)
    request = PlanRequest("tensorrt", profiles("head", read_manifest(folder).shape, SIZES))
    graph, trt = (folder / "head.onnx").read_bytes(), standin_tensorrt.make(state)
    with pytest.raises(ModelError, match=message):
        build_plan(trt, graph, request, lambda *_: True, library)
    assert not built
    assert state.deserialised == 0
