"""Backends under test: equal answers, and reports of what they ran."""

import shutil
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from cstl_edge.bench import inputs
from cstl_edge.bench.backends import onnxruntime, openvino, pytorch
from cstl_edge.bench.backends.base import BASELINE, Backend, Unavailable
from cstl_edge.bench.backends.open import backends
from cstl_edge.errors import BackendUnavailable, ModelError

FEEDS = {
    "frames": inputs.feed("frames", 3, 1, (16, 12)),
    "full": inputs.feed("full", 2, 5, (16, 12)),
}


def by_name(backends):
    """Return backends by name, those that are missing apart."""
    backends = list(backends)
    here = {one.name: one for one in backends if isinstance(one, Backend)}
    return here, {one.name: one.reason for one in backends if isinstance(one, Unavailable)}


def answers(backend, graph, feed=None):
    """Return the outputs of a backend after two runs, and its report of what ran."""
    call = backend.open_graph(graph, feed or FEEDS[graph])
    call.run()
    call.run()
    outputs = call.outputs()
    call.close()
    return outputs, call.ran


def test_every_file_is_a_backend_under_one_name(reduced):
    here, missing = by_name(backends(reduced))
    assert {"onnxruntime float32", "onnxruntime float16", "onnxruntime int8"} <= {*here}
    expected = {"tensorrt float16", "tensorrt float16, no plugin", "tensorrt-rtx float16"}
    assert expected <= {*missing}
    assert {BASELINE, "pytorch float16, cuda", "pytorch float16, cuda, cuda graph"} <= {*missing}
    assert not {*here} & {*missing}
    assert all("\n" not in reason and reason for reason in missing.values())


@pytest.mark.parametrize("graph", ["frames", "full"])
def test_onnxruntime_precisions_agree_and_report_their_type(reduced, graph):
    here, _ = by_name(onnxruntime.backends(reduced))
    plain, ran = answers(here["onnxruntime float32"], graph)
    assert (ran.provider, ran.computed_in, ran.threads) == ("CPUExecutionProvider", "float32", 1)
    half, ran = answers(here["onnxruntime float16"], graph)
    assert (ran.precision, ran.computed_in) == ("float16", "float32")
    eight, ran = answers(here["onnxruntime int8"], graph)
    assert (ran.precision, ran.computed_in) == ("int8", "int8")
    key = "features" if graph == "frames" else "embedding"
    np.testing.assert_allclose(half[key], plain[key], atol=0.02)
    for other in (half, eight):  # another graph, or the same three times over?
        assert 0 < np.abs(other[key] - plain[key]).max() < 0.5


def test_int8_has_no_head_of_its_own_and_full_is_two_graphs(reduced):
    here, _ = by_name(onnxruntime.backends(reduced))
    assert here["onnxruntime int8"].graphs == ("frames", "full")
    _, ran = answers(here["onnxruntime int8"], "full")
    assert ran.options["files"] == "frames.int8.onnx, head.onnx"
    _, ran = answers(here["onnxruntime float16"], "full")
    assert ran.options["files"] == "full.fp16.onnx"


def test_an_export_of_one_precision_names_the_option_for_others(plain):
    here, missing = by_name(onnxruntime.backends(plain))
    assert [*here] == ["onnxruntime float32"]
    assert "--precision int8" in missing["onnxruntime int8"]


@pytest.mark.parametrize("graph", ["frames", "head", "full"])
@pytest.mark.parametrize(("module", "context"), [(openvino, "reduced"), (pytorch, "trained")])
def test_every_backend_agrees_with_onnxruntime(request, graph, module, context):
    context = request.getfixturevalue(context)
    name = module.__name__.rpartition(".")[2]
    pytest.importorskip({"pytorch": "torch"}.get(name, name))
    reference = by_name(onnxruntime.backends(context))[0]["onnxruntime float32"]
    feed = FEEDS.get(graph)
    if graph == "head":
        feed = inputs.windows(answers(reference, "frames")[0]["features"], 2, 3)
    expected, _ = answers(reference, graph, feed)
    actual, ran = answers(by_name(module.backends(context))[0][f"{name} float32"], graph, feed)
    assert {*actual} == {*expected}
    for output, array in expected.items():
        np.testing.assert_allclose(actual[output], array, atol=1e-5)
    assert (ran.backend, ran.computed_in, ran.threads) == (name, "float32", 1)
    assert ran.provider.lower() == "cpu"


def test_openvino_reports_the_type_of_its_products(reduced):
    pytest.importorskip("openvino", reason="needs openvino")
    here, missing = by_name(openvino.backends(reduced))
    if "openvino bfloat16" in here:
        _, ran = answers(here["openvino bfloat16"], "frames")
        assert (ran.precision, ran.computed_in) == ("bfloat16", "bfloat16")
    else:
        assert "bfloat16" in missing["openvino bfloat16"]
    _, ran = answers(here["openvino int8"], "frames")
    assert "int8" in ran.computed_in


@pytest.mark.parametrize(
    ("library", "module", "names", "extra"),
    [
        ("openvino", openvino, [f"openvino {p}" for p in openvino.HINTS], "[bench]"),
        ("torch", pytorch, [BASELINE, pytorch.COMPILED], "pip install"),
    ],
)
def test_without_a_library_its_rows_have_the_reason(
    reduced, monkeypatch, library, module, names, extra
):
    monkeypatch.setitem(sys.modules, library, None)
    here, missing = by_name(module.backends(reduced))
    assert not here
    assert [*missing] == names
    assert all(extra in reason for reason in missing.values())


def without_compiling(monkeypatch):
    """Let torch.compile only trace: a compiler takes ten seconds."""
    import torch

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


def test_compiled_pytorch_is_one_graph_and_agrees_with_eager(trained, monkeypatch):
    without_compiling(monkeypatch)
    here, _ = by_name(pytorch.backends(replace(trained, short=False)))
    compiled, ran = answers(here[pytorch.COMPILED], "full")
    eager, _ = answers(here[BASELINE], "full")
    np.testing.assert_allclose(compiled["embedding"], eager["embedding"], atol=1e-6)
    assert ran.options == {"compiled": "inductor"}


def test_a_graph_that_breaks_is_refused_instead_of_running_eagerly(monkeypatch):
    torch = pytest.importorskip("torch", reason="needs torch")
    without_compiling(monkeypatch)

    def breaks(x):
        return x + 1 if float(x.sum()) > 0 else x

    with pytest.raises(BackendUnavailable, match=r"torch\.compile"):
        pytorch.compiled(breaks, (torch.zeros(3),))


def test_without_a_compiler_the_row_names_it(trained, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    _, missing = by_name(pytorch.backends(trained))
    assert "no-such-compiler" in missing[pytorch.COMPILED]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_exception_of_a_runtime_is_a_model_error(reduced, backend):
    if backend == "openvino":
        pytest.importorskip("openvino", reason="needs openvino")
    module = {"onnxruntime": onnxruntime, "openvino": openvino}[backend]
    backend = by_name(module.backends(reduced))[0][f"{backend} float32"]
    with pytest.raises(ModelError):
        answers(backend, "frames", {"silhouettes": np.zeros((1, 5, 5), np.uint8)})
