"""Parity with PyTorch: each kind of deviation is detected."""

import onnx
import onnxruntime as ort
import pytest
import torch

from cstl_edge.errors import ExportError
from cstl_edge.export.checks import parity as parity_module
from cstl_edge.export.graphs import GRAPHS, INCREMENTAL, build_graph

FIRST = dict.fromkeys(GRAPHS + INCREMENTAL, "embedding")
FIRST |= {"frames": "features", "taps": "taps", "mix": "logits"}


def measured(network, graph, exported=None):
    model = build_graph((exported or network).fused(), graph)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return parity_module.Parity(
        {f"{graph}.onnx": parity_module.measure(network, f"{graph}.onnx", session)}
    )


@pytest.mark.parametrize("graph", GRAPHS + INCREMENTAL)
def test_a_faithful_graph_passes(network, graph):
    parity = measured(network(), graph)
    parity.check()
    report = parity.to_dict()["graphs"][f"{graph}.onnx"]
    numbers = report[FIRST[graph]]
    assert 0 <= numbers["max_abs_error"] < 1e-5 < numbers["max_abs_value"]
    if FIRST[graph] == "embedding":
        assert report["salient_frames"] == {"compared": 40, "wrong": 0, "ties": 0}


def test_trace_example_is_not_a_test_case():
    for n, lengths in parity_module.CASES:
        assert n != 2
        assert n == len(lengths)
        assert max(lengths) != 5


@pytest.mark.parametrize(("graph", "output"), FIRST.items())
def test_another_networks_graph_is_named(network, graph, output):
    with pytest.raises(ExportError, match=rf"{graph}\.onnx: {output} differs from PyTorch by"):
        measured(network(0), graph, network(1)).check()


def test_wrong_choices_are_counted_apart_from_ties(network):
    other = network()
    with torch.no_grad():
        other.scores.second.weight.neg_()  # the least salient frame of each part
    parity = measured(network(), "head", other)
    choices = parity.graphs["head.onnx"]["salient_frames"]
    assert choices.wrong > 20
    parity.graphs["head.onnx"] = {"salient_frames": choices}
    with pytest.raises(ExportError, match=r"salient_frames differs from PyTorch in \d+ of 40"):
        parity.check()


def test_equal_scores_are_ties(network):
    last, first = network(), network()
    with torch.no_grad():
        for network in (last, first):
            network.scores.second.weight.zero_()  # all frames are equally salient
        # A hair decides for other frames in the exported one.
        first.scores.second.weight.fill_(-1e-9)
    parity = measured(last, "head", first)
    choices = parity.graphs["head.onnx"]["salient_frames"]
    assert choices.ties > 0
    assert choices.wrong == 0
    parity.check()


def test_nan_is_no_agreement(network):
    broken = network()
    with torch.no_grad():
        broken.embed.weight[0, 0, 0] = float("nan")
    with pytest.raises(ExportError, match="embedding differs from PyTorch by nan"):
        measured(network(), "head", broken).check()


def test_baked_in_batch_index_is_detected(network):
    network = network()
    model = build_graph(network.fused(), "head")
    for node in model.graph.node:  # what a traced python range over the batch leaves behind
        if node.op_type == "CstlPartGather":
            node.input[2] = "two_lengths"
    two = onnx.numpy_helper.from_array(
        torch.tensor([5, 3], dtype=torch.int32).numpy(), "two_lengths"
    )
    model.graph.initializer.append(two)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with pytest.raises(ExportError, match=r"head\.onnx does not run on .*'lengths': \[1\]"):
        parity_module.measure(network, "head.onnx", session)
