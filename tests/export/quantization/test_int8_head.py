"""The cuts of the head in integers: the numbers of a plain loop, a way of their own in the folder,
and a gate that leaves them out and nothing else."""

import logging
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cstl_edge.errors import ExportError, ModelError
from cstl_edge.export.export_model import export_model
from cstl_edge.export.graphs import SLIDING, build
from cstl_edge.export.quantization import int8_head, variants
from cstl_edge.export.quantization.context import Subject
from cstl_edge.export.quantization.int8_head import STEPS, products, quantise_products, weight_steps
from cstl_edge.export.quantization.tensor_ranges import Seen, Watched
from cstl_edge.runtime import load
from cstl_edge.runtime.backends.onnxruntime import open_session
from cstl_edge.runtime.manifest import Shape, read_manifest
from cstl_edge.runtime.model_check import check_graph
from cstl_edge.runtime.streaming.encoder import StreamingEncoder

GRAPHS_AND_CUTS = (("frames", "head"), SLIDING)
INT8 = ("taps.int8.onnx", "mix.int8.onnx", "slide.int8.onnx")
RNG = np.random.default_rng(2)
ROWS = RNG.normal(size=(4, 5, 16)).astype(np.float32)  # [p, m, c]


@pytest.fixture(autouse=True)
def every_product(monkeypatch):
    """A small network has no product that gains: let all be in integers but those of 4 weights."""
    monkeypatch.setattr(int8_head, "MIN_WEIGHTS", 5)


@pytest.fixture(scope="module")
def folder(weights, gather, tmp_path_factory):
    """An export whose windows slide by int8."""
    target = tmp_path_factory.mktemp("cuts") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8_head, "MIN_WEIGHTS", 5)
        exported(weights, target, gather)
    return target


def exported(weights, target, gather):
    return export_model(
        weights,
        target,
        graphs=("frames", "head"),
        simplify=False,
        precisions=("int8",),
        gather=gather,
    )


def watched(network, graph, *feeds):
    model = build(network.fused(), graph)
    session = Watched(f"{graph}.onnx", model, [node.input[0] for node in products(model)])
    for feed in feeds:
        session.run(None, feed)
    return model, session.seen


def weights_of(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def seen_of(model, node):
    p, k, _ = weights_of(model)[node.input[1]].shape
    return Seen(-1.0, 1.0, np.tile(np.eye(k), (p, 1, 1)))


def twin(rows, steps, scales, seen):
    """A product [p, m, k] x [p, k, o] in integers, as the graph has to."""
    width = seen.largest - seen.smallest
    scale = np.float32(width / STEPS)
    zero = np.rint(-seen.smallest / width * STEPS)
    inputs = np.clip(np.rint(rows / scale) + zero, 0, STEPS) - zero
    whole = np.einsum("pmk,pko->pmo", inputs, steps.astype(np.float64))
    return whole.astype(np.float32) * (scales * scale)


def test_a_product_is_that_of_integers(network):
    model, seen = watched(network(), "taps", {"features": ROWS / 2})  # so some values are clipped
    quantised = quantise_products(model, seen)
    weight = weights_of(model)["matrix"]
    product = next(n for n in products(model) if n.input[1] == "matrix")
    steps, scales = weight_steps(weight, seen["features"].square)
    assert steps.dtype == np.int8
    assert np.abs(steps).max() == 63  # 255 * 63 * 2 still fits into 16 bits
    quantised.graph.output.append(onnx.helper.make_empty_tensor_value_info(product.output[0]))
    session = open_session("taps.int8.onnx", quantised.SerializeToString(), 1)
    (found,) = session.run([product.output[0]], {"features": ROWS})
    expected = twin(ROWS, steps, scales, seen["features"])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_errors_of_rounding_make_good_for_each_other():
    """Inputs of few directions, as features are; not those that the weights were rounded on."""
    weight = RNG.normal(size=(2, 32, 24)).astype(np.float32)
    rows = RNG.normal(size=(2, 400, 6)) @ RNG.normal(size=(2, 6, 32))
    known, others = rows[:, :200], rows[:, 200:]
    steps, scales = weight_steps(weight, known.swapaxes(1, 2) @ known)
    nearest = np.rint(weight / scales)
    error, theirs = (np.abs(others @ (x * scales - weight)).mean() for x in (steps, nearest))
    assert error < theirs / 2


def test_a_part_without_a_value_is_rounded_to_the_nearest():
    weight = RNG.normal(size=(1, 8, 5)).astype(np.float32)
    steps, scales = weight_steps(weight, np.zeros((1, 8, 8)))
    np.testing.assert_array_equal(steps, np.rint(weight / scales))


@pytest.mark.parametrize("graph", SLIDING)
def test_it_is_one_of_our_graphs_with_its_weights_in_int8(network, graph):
    network = network()
    model = build(network.fused(), graph)
    seen = {node.input[0]: seen_of(model, node) for node in products(model)}
    quantised = quantise_products(model, seen)
    check_graph(
        f"{graph}.int8.onnx",
        quantised.SerializeToString(),
        Shape.model_validate(network.config.to_dict()),
    )
    kinds = [node.op_type for node in quantised.graph.node]
    assert kinds.count("MatMulInteger") == len(seen) + (graph == "taps")  # two read `features`
    assert kinds.count("QuantizeLinear") == len(seen)
    large = [t for t in quantised.graph.initializer if len(t.dims) == 3 and t.dims[1] > 1]
    assert large
    assert {t.data_type for t in large if t.dims[1] * t.dims[2] > 4} == {onnx.TensorProto.INT8}


def test_an_answer_does_not_depend_on_who_else_walks(folder):
    encoder = load(folder, precision="int8")
    alone = encoder.taps(ROWS[:, :1])
    together = encoder.taps(np.concatenate((ROWS[:, :1], 50 * ROWS), 1))
    for one, many in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, many[:, :1])


def test_a_range_of_nothing_is_told(network):
    model = build(network().fused(), "taps")
    with pytest.raises(ExportError, match=r"features spans 0 to 0 .* Calibrate on silhouettes"):
        quantise_products(model, {n.input[0]: Seen() for n in products(model)})


def test_small_products_stay(network, monkeypatch):
    monkeypatch.undo()
    assert not any(products(build(network().fused(), graph)) for graph in SLIDING)
    large = network(widths=(4, 8, 16, 32), embedding=64)
    counts = {graph: len(products(build(large.fused(), graph))) for graph in SLIDING}
    assert counts == {"taps": 1, "mix": 0, "slide": 1}


def test_the_folder_has_them_and_tells_how_they_were_judged(folder):
    manifest = read_manifest(folder)
    one = manifest.precisions["int8"]
    assert one.cuts == INT8
    assert set(INT8) < set(manifest.files)
    assert manifest.cuts("int8", integers=False) == ("taps.onnx", "mix.onnx", "slide.onnx")
    assert manifest.cuts("float32", integers=True) == ("taps.onnx", "mix.onnx", "slide.onnx")
    for state in int8_head.STATES:
        told = one.judged[f"onnxruntime, window {state}"]
        assert told["window_frames"] == 3  # of 6, for the others are to slide by
        assert 0.95 <= told["cosine"]["smallest"] < 1
        assert told["salient_frames"]["compared"] == 60 * 4


def test_what_slides_by_int8_is_near_float32(folder, gather):
    """Long windows, from the first answer on, and once more after every frame of a slide."""
    walk = np.concatenate([gather().walks.silhouettes[i] for i in (0, 2, 4)])  # 18 frames
    streams = [
        StreamingEncoder(load(folder, precision=precision), window=8, hop=1)
        for precision in ("float32", "int8")
    ]
    differ = 0
    for silhouette in walk:
        plain, other = (stream.push({"a": silhouette}).get("a") for stream in streams)
        if plain is None:
            continue
        same = plain.salient_frames == other.salient_frames
        a, b = plain.embedding[same], other.embedding[same]
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosine.min() > 0.98
        differ += int((plain.embedding != other.embedding).any())
    assert differ == 11


def test_a_changed_cut_is_refused(folder, tmp_path):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / INT8[0]).write_bytes((copy / "taps.onnx").read_bytes())
    load(copy, precision="float32").close()
    with pytest.raises(ModelError, match=r"taps\.int8\.onnx: expected sha256"):
        load(copy, precision="int8")


def change_judgement(monkeypatch, **changes):
    real = int8_head.judged
    monkeypatch.setattr(
        int8_head,
        "judged",
        lambda *given: {state: replace(one, **changes) for state, one in real(*given).items()},
    )


@pytest.mark.parametrize(("points", "default"), [(49.0, "int8"), (51.0, "float32")])
def test_the_cuts_have_a_say_in_the_default(
    weights, gather, tmp_path, monkeypatch, points, default
):
    monkeypatch.setattr(variants, "DEFAULT_DROP_POINTS", 50.0)
    change_judgement(monkeypatch, rank1_drop_at_most_points=points)
    assert exported(weights, tmp_path / "out", gather).cpu_default == default


def subject(network, evidence):
    plain, cuts = ({g: build(network, g) for g in names} for names in GRAPHS_AND_CUTS)
    return Subject(network, plain, evidence, cuts)


def test_far_answers_close_the_gate(network, gather):
    """Cuts of another network, behind the frames of this one."""
    ours, others = (subject(one.fused(), gather()) for one in (network(), network(seed=1)))
    found = int8_head.judged(ours, dict(others.cuts), ours.features)
    for one in found.values():
        assert any("smallest cosine" in problem for problem in one.problems)
    same = int8_head.judged(ours, {}, ours.features)  # float32 cuts slide as whole windows answer
    for one in same.values():
        assert not one.problems
        assert one.told["cosine"]["smallest"] > 1 - 1e-4


def test_a_closed_gate_leaves_out_the_cuts_alone(weights, gather, tmp_path, monkeypatch, caplog):
    change_judgement(monkeypatch, problems=["off"])
    with caplog.at_level(logging.WARNING):
        manifest = exported(weights, tmp_path / "out", gather)
    (said,) = [r.getMessage() for r in caplog.records if "slide by float32" in r.getMessage()]
    assert "off when full: off; slid: off. Judged on more people" in said
    assert "\n" not in said
    one = manifest.precisions["int8"]
    assert one.cuts is None
    assert not set(INT8) & set(manifest.files)
    assert one.judged["onnxruntime, window slid"]["cosine"]["smallest"] < 1
    encoder = load(tmp_path / "out", precision="int8")
    assert encoder.info.slides
    plain = load(tmp_path / "out", precision="float32")
    np.testing.assert_array_equal(encoder.taps(ROWS)[0], plain.taps(ROWS)[0])
