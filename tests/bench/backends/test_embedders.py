"""Embedders: encoders, and the graph `full` of backends that have no encoder."""

import numpy as np
import pytest

from cstl_edge.bench.backends import embedders as module
from cstl_edge.bench.backends.base import (
    Backend,
    GraphUnderTest,
    StreamingBackend,
    Unavailable,
    cores_of,
    no_graph,
    ran_of,
)
from cstl_edge.bench.backends.embedders import GraphEmbedder, embedders
from cstl_edge.bench.backends.open import streaming_backends
from cstl_edge.bench.record import Ran
from cstl_edge.errors import ModelError
from cstl_edge.runtime import load
from cstl_edge.runtime.graph import bind

OURS = ["onnxruntime float32", "onnxruntime float16", "onnxruntime int8"]
RAN = Ran(backend="x", provider="cpu", precision="float32", computed_in="float32", version="1")

pytestmark = pytest.mark.usefixtures("everybody")


def summing_backend(name="x float32", closed=None):
    """Return a backend whose embedding is the sum of each sequence's frames."""

    def open_graph(graph, feed):
        def run(inputs):
            total = inputs["silhouettes"].sum((1, 2, 3), dtype=np.float64)
            return {"embedding": total[:, None, None].astype(np.float32)}

        fields = vars(bind(run, feed)) | {"close": lambda: closed.append(graph)}
        return GraphUnderTest(ran=RAN, **fields)

    return Backend(name, open_graph, graphs=("full",))


def test_openvino_is_an_encoder_where_it_is_installed(reduced, plain):
    pytest.importorskip("openvino", reason="needs openvino")
    actual = {x.name: x for x in streaming_backends(reduced) if x.name.startswith("openvino")}
    assert [*actual] == ["openvino float32", "openvino int8"]
    ran = ran_of(actual["openvino int8"].open_encoder().info)
    assert (ran.backend, ran.provider, ran.threads) == ("openvino", "CPU", 1)
    assert (ran.precision, ran.computed_in) == ("int8", "int8")
    assert ran.version[0].isdigit()
    (missing,) = (one for one in streaming_backends(plain) if one.name == "openvino int8")
    assert "--precision int8" in missing.reason


def test_pytorch_is_an_encoder_with_a_checkpoint(trained):
    actual = {one.name: one for one in streaming_backends(trained)}
    ran = ran_of(actual["pytorch float32"].open_encoder().info)
    assert (ran.backend, ran.precision, ran.computed_in) == ("pytorch", "float32", "float32")
    assert ran.version[0].isdigit()


def test_a_float16_file_on_a_processor_is_computed_in_float32(reduced):
    ran = {p: ran_of(load(reduced.folder, threads=1, precision=p).info) for p in ("fp16", "int8")}
    assert (ran["fp16"].precision, ran["fp16"].computed_in) == ("float16", "float32")
    assert (ran["int8"].precision, ran["int8"].computed_in) == ("int8", "int8")
    assert ran["int8"].threads == 1


def test_a_graph_embeds_sequences_of_any_shape_and_is_open_once_per_shape():
    closed, rng = [], np.random.default_rng(0)
    embedder = GraphEmbedder(summing_backend(closed=closed))
    with pytest.raises(ModelError, match="has not run"):
        embedder.ran()
    for shape in ((1, 5, 8, 6), (3, 2, 8, 6), (1, 5, 8, 6)):
        silhouettes = rng.integers(0, 256, shape, np.uint8)
        actual = embedder.encode(silhouettes)
        assert actual.embedding[:, 0, 0].tolist() == silhouettes.sum((1, 2, 3)).tolist()
        assert actual.salient_frames.tolist() == [[-1]] * shape[0]
    assert embedder.ran() is RAN
    embedder.close()
    assert closed == ["full"] * 2


@pytest.mark.parametrize("name", ["onnxruntime float32", "openvino float32"])
def test_the_graph_full_agrees_with_its_encoder(reduced, name):
    pytest.importorskip(name.split()[0])
    (backend,) = (one for one in streaming_backends(reduced) if one.name == name)
    embedder, encoder = GraphEmbedder(backend), backend.open_encoder()
    for seed in range(2):  # the same shape twice: inputs are written over
        silhouettes = np.random.default_rng(seed).integers(0, 256, (2, 5, 16, 12), np.uint8)
        actual, expected = embedder.encode(silhouettes), encoder.encode(silhouettes)
        np.testing.assert_allclose(actual.embedding, expected.embedding, atol=1e-5)
        np.testing.assert_array_equal(actual.salient_frames, expected.salient_frames)
    embedder.close()


def test_cores_are_counted_on_processors_only():
    assert cores_of(RAN.model_copy(update={"threads": 2})) == 2
    assert cores_of(RAN.model_copy(update={"threads": 1, "provider": "Orin"})) is None


def test_embedders_are_the_encoders_and_those_backends_that_have_none(reduced, monkeypatch):
    def backends(context):
        yield from (x for x in streaming_backends(context) if x.name in OURS)
        yield summing_backend(closed=[])
        yield summing_backend(name="onnxruntime float32")
        yield summing_backend(name="x float32, compiled")
        yield Unavailable("y float32", "not here")

    monkeypatch.setattr(module, "backends", backends)
    actual = [*embedders(reduced)]
    here = [one.name for one in actual if not isinstance(one, Unavailable)]
    assert here == [*OURS, "x float32"]
    assert actual[-1] == Unavailable("y float32", "not here")


def test_an_encoder_that_does_not_open_is_unavailable(reduced, monkeypatch):
    def refuse():
        raise ModelError("damaged")

    one = StreamingBackend("onnxruntime float32", open_encoder=refuse)
    monkeypatch.setattr(module, "backends", lambda context: iter([one]))
    assert [*embedders(reduced)] == [Unavailable("onnxruntime float32", "damaged")]


def test_an_encoder_alone_opens_no_graph():
    with pytest.raises(ModelError, match="this one is an encoder"):
        no_graph("full", {})
