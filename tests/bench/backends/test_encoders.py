"""The encoders of a machine under the contenders' names, and contenders taken for encoders."""

import dataclasses
import sys

import numpy as np
import pytest

from cstl_edge.bench.backends import encoders
from cstl_edge.bench.backends.base import Backend, Call, Unavailable
from cstl_edge.bench.backends.encoders import (
    Candidate,
    OfContender,
    candidates,
    embedders,
    ran_of,
    result,
)
from cstl_edge.bench.record import Case, Ran
from cstl_edge.errors import ModelError
from cstl_edge.runtime import load

OURS = ["onnxruntime float32", "onnxruntime float16", "onnxruntime int8"]
RAN = Ran(backend="x", provider="cpu", precision="float32", computed_in="float32", version="1")

pytestmark = pytest.mark.usefixtures("unprobed", "everybody")


@pytest.fixture
def everybody(monkeypatch):
    """Let the short form measure whoever is here."""
    monkeypatch.setattr(encoders, "asked", lambda context, name: True)


def made_up(copies=False, name="x float32"):
    """Return a contender that says the sum of each sequence's frames; `copies` its inputs once."""

    def prepare(graph, feed):
        taken = {key: array.copy() for key, array in feed.items()} if copies else feed
        last = {}

        def run():
            total = taken["silhouettes"].sum((1, 2, 3), dtype=np.float64)
            last["embedding"] = total[:, None, None].astype(np.float32)

        return Call(RAN, run, lambda: last)

    return Backend(name, prepare, graphs=("full",))


def test_what_is_here_and_what_is_not(reduced, plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = {one.name: one for one in candidates(reduced)}
    here = [name for name, one in found.items() if isinstance(one, Candidate)]
    assert here == OURS
    for name in ("openvino float32", "openvino int8"):
        assert found[name].reason == "openvino is not here: pip install openvino"
    assert "cstl-edge build" in found["tensorrt float16"].reason
    assert "pytorch float32" in found
    missing = {one.name: one.reason for one in candidates(plain) if isinstance(one, Unavailable)}
    assert "--precision int8" in missing["onnxruntime int8"]


def test_openvino_is_an_encoder_where_it_is_installed(reduced, plain):
    pytest.importorskip("openvino", reason="needs openvino")
    found = {one.name: one for one in candidates(reduced) if one.name.startswith("openvino")}
    assert [*found] == ["openvino float32", "openvino int8"]
    ran = ran_of(found["openvino int8"].open().info)
    assert (ran.backend, ran.provider, ran.threads) == ("openvino", "CPU", 1)
    assert (ran.precision, ran.computed_in) == ("int8", "int8")
    assert ran.version[0].isdigit()
    (missing,) = (one for one in candidates(plain) if one.name == "openvino int8")
    assert "--precision int8" in missing.reason


def test_pytorch_is_here_with_a_checkpoint(trained):
    found = {one.name: one for one in candidates(trained)}
    encoder = found["pytorch float32"].open()
    ran = ran_of(encoder.info)
    assert (ran.backend, ran.precision, ran.computed_in) == ("pytorch", "float32", "float32")
    assert ran.version[0].isdigit()


def test_a_float16_file_on_a_processor_is_computed_in_float32(reduced):
    ran = {p: ran_of(load(reduced.folder, threads=1, precision=p).info) for p in ("fp16", "int8")}
    assert (ran["fp16"].precision, ran["fp16"].computed_in) == ("float16", "float32")
    assert (ran["int8"].precision, ran["int8"].computed_in) == ("int8", "int8")
    assert ran["int8"].threads == 1


def test_a_contender_embeds_sequences_of_any_shape():
    whole, rng = OfContender(made_up()), np.random.default_rng(0)
    for shape in ((1, 5, 8, 6), (3, 2, 8, 6), (1, 5, 8, 6)):
        silhouettes = rng.integers(0, 256, shape, np.uint8)
        found = whole.encode(silhouettes)
        assert found.embedding[:, 0, 0].tolist() == silhouettes.sum((1, 2, 3)).tolist()
        assert found.salient_frames.tolist() == [[-1]] * shape[0]
    assert whole.ran is RAN


def test_a_contender_that_keeps_its_first_inputs_is_refused():
    with pytest.raises(ModelError, match="keeps the inputs"):
        OfContender(made_up(copies=True)).encode(np.full((1, 2, 8, 6), 9, np.uint8))


def test_where_times_do_not_count_it_is_opened_anew():
    whole, rng = OfContender(made_up(copies=True), anew=True), np.random.default_rng(0)
    for _ in range(3):
        silhouettes = rng.integers(0, 256, (2, 3, 8, 6), np.uint8)
        found = whole.encode(silhouettes)
        assert found.embedding[:, 0, 0].tolist() == silhouettes.sum((1, 2, 3)).tolist()


def test_the_short_form_asks_few(reduced, monkeypatch):
    monkeypatch.undo()
    names = [one.name for one in candidates(reduced)]
    assert names == [*encoders.SHORT]
    longer = dataclasses.replace(reduced, short=False)
    assert "onnxruntime int8" in [one.name for one in candidates(longer)]


def test_cores_are_those_of_processors():
    assert encoders.cores_of(RAN.model_copy(update={"threads": 2})) == 2
    assert encoders.cores_of(RAN.model_copy(update={"threads": 1, "provider": "Orin"})) is None


def test_embedders_are_the_encoders_and_those_contenders_that_have_none(reduced, monkeypatch):
    others = [
        made_up(),
        made_up(name="onnxruntime float32"),
        made_up(name="x float32, compiled"),
        Unavailable("y float32", "not here"),
    ]
    monkeypatch.setattr(encoders, "contenders", lambda context: iter(others))
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = [*embedders(reduced)]
    here = [one.name for one in found if not isinstance(one, Unavailable)]
    assert here == [*OURS, "x float32"]
    assert found[-1] == Unavailable("y float32", "not here")


def test_an_encoder_that_does_not_open_is_missing(reduced, monkeypatch):
    def refuse():
        raise ModelError("damaged")

    one = Candidate("onnxruntime float32", refuse)
    monkeypatch.setattr(encoders, "candidates", lambda context: iter([one]))
    monkeypatch.setattr(encoders, "contenders", lambda context: iter([]))
    assert [*embedders(reduced)] == [Unavailable("onnxruntime float32", "damaged")]


def test_a_row_tells_of_its_call(reduced):
    row = result(reduced, "multi", "x", case=Case(walkers=3), values={"walkers": 3.0})
    assert (row.run, row.scenario, row.subject) == ("test", "multi", reduced.subject)
    assert (row.contender, row.case.walkers, row.skipped) == ("x", 3, None)
