"""INT8 incremental head: its files, one frame and many, and its accuracy gate."""

import copy
import logging

import numpy as np
import onnx
import pytest

from cstl_edge.errors import ModelError
from cstl_edge.export.checks.accuracy_gate import GateResult
from cstl_edge.export.export_model import export_model
from cstl_edge.export.quantization import int8_head, int8_products, variants
from cstl_edge.export.quantization.int8_head import STATES, QuantisedHead
from cstl_edge.runtime import load
from cstl_edge.runtime.manifest import read_manifest
from cstl_edge.runtime.streaming.encoder import StreamingEncoder
from cstl_edge.runtime.streaming.windows import open_windows

INT8 = ("taps.int8.onnx", "mix.int8.onnx", "slide.int8.onnx")
RNG = np.random.default_rng(2)
ROWS = RNG.normal(size=(4, 5, 16)).astype(np.float32)  # [p, m, c]


@pytest.fixture(autouse=True)
def every_product(monkeypatch):
    """A small network has no product that gains: let all be in integers but those of 4 weights."""
    monkeypatch.setattr(int8_products, "MIN_WEIGHTS", 5)


@pytest.fixture(scope="module")
def folder(weights, gather, tmp_path_factory):
    """An export whose windows slide by int8."""
    target = tmp_path_factory.mktemp("incremental") / "small"
    plain = {"graphs": ("frames", "head"), "simplify": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8_products, "MIN_WEIGHTS", 5)
        export_model(weights, target, precisions=("int8",), gather=gather, **plain)
    return target


def test_output_hardly_depends_on_other_walkers(folder):
    """Weights are the same; a product of one row and of many differ by float32's rounding."""
    encoder = load(folder, precision="int8")
    alone = encoder.taps(ROWS[:, :1])
    together = encoder.taps(np.concatenate((ROWS[:, :1], 50 * ROWS), 1))
    for one, many in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, many[:, :1], rtol=1e-5, atol=1e-6)


def test_one_graph_and_the_way_of_many_walkers_agree(folder, gather):
    """`step` multiplies integers of 14 bits, a batch of walkers the same weights in float32."""
    encoder = load(folder, precision="int8")
    walk = np.concatenate([gather().evaluation.silhouettes[i] for i in (0, 2, 4)])  # 18 frames
    step, batch = (StreamingEncoder[str](encoder, window=8, hop=hop) for hop in (1, 1))
    batch._windows = open_windows(encoder, 8, 64, hop=2, slide=True)
    assert type(step._windows) is not type(batch._windows)
    differ = 0
    for silhouette in walk:
        one, many = (stream.push({"a": silhouette}).get("a") for stream in (step, batch))
        if one is not None:
            same = one.salient_frames == many.salient_frames
            assert same.mean() >= 0.75
            np.testing.assert_allclose(
                one.embedding[same], many.embedding[same], rtol=2e-3, atol=2e-3
            )
            differ += int((one.embedding != many.embedding).any())
    assert differ > 3  # or both were one way


def test_export_folder_holds_int8_head_and_its_gate_report(folder):
    manifest = read_manifest(folder)
    variant = manifest.precisions["int8"]
    assert variant.cuts == INT8
    assert set(INT8) < set(manifest.files)
    integers = {
        name: [n.op_type for n in onnx.load(folder / name).graph.node].count("MatMulInteger")
        for name in (*INT8, variant.step)
    }
    assert integers["taps.int8.onnx"] == integers["mix.int8.onnx"] == 0  # for frames of many
    assert integers["step.int8.onnx"] > integers["slide.int8.onnx"] > 0
    assert manifest.incremental_files("int8", int8=False) == ("taps.onnx", "mix.onnx", "slide.onnx")
    assert manifest.incremental_files("float32", int8=True) == (
        "taps.onnx",
        "mix.onnx",
        "slide.onnx",
    )
    for state in STATES:
        report = variant.judged[f"onnxruntime, window {state}"]
        assert report["window_frames"] == 3  # of 6, for the others are to slide by
        assert 0.95 <= report["cosine"]["smallest"] < 1
        assert report["salient_frames"]["compared"] == 60 * 4


def test_int8_sliding_windows_are_near_float32(folder, gather):
    """Long windows, from the first answer on, and once more after every frame of a slide."""
    walk = np.concatenate([gather().evaluation.silhouettes[i] for i in (0, 2, 4)])  # 18 frames
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


def sliding_gates(folder, problems=(), at_most_points=0.0):
    """The gates of an export, with what a test wants of them."""
    judged = read_manifest(folder).precisions["int8"].judged
    reports = {state: copy.deepcopy(judged[f"onnxruntime, window {state}"]) for state in STATES}
    for report in reports.values():
        report["rank1"]["lost"]["at_most_points"] = at_most_points
    return {state: GateResult(report, list(problems)) for state, report in reports.items()}


@pytest.fixture
def with_gates(context, folder, monkeypatch):
    """Make int8 variants whose incremental head came through given gates."""

    def make(**changes):
        gates = sliding_gates(folder, **changes)
        monkeypatch.setattr(
            int8_head,
            "quantise_head",
            lambda context, frames: QuantisedHead(*[dict(context.incremental)] * 2),
        )
        monkeypatch.setattr(int8_head, "evaluate_head", lambda *given: gates)
        return variants.make_variants(context, ("int8",), lambda phase: None)

    return make


@pytest.mark.parametrize(("points", "default"), [(49.0, "int8"), (51.0, "float32")])
def test_the_incremental_head_counts_for_the_default(with_gates, monkeypatch, points, default):
    monkeypatch.setattr(variants, "DEFAULT_DROP_POINTS", 50.0)
    assert with_gates(at_most_points=points).cpu_default == default


def test_far_outputs_close_the_gate(context, traced):
    """An incremental head of another network, behind the frames of this one."""
    others = {name: traced(name, seed=1) for name in context.incremental}
    gates = int8_head.evaluate_head(context, others, context.features)
    for gate in gates.values():
        assert any("smallest cosine" in problem for problem in gate.problems)
    same = int8_head.evaluate_head(context, {}, context.features)  # float32 slides as it is whole
    for gate in same.values():
        assert not gate.problems
        assert gate.report["cosine"]["smallest"] > 1 - 1e-4


def test_a_closed_gate_leaves_out_the_incremental_head_alone(with_gates, reduced, caplog):
    with caplog.at_level(logging.WARNING):
        result = with_gates(problems=["off"])
    (warning,) = [r.getMessage() for r in caplog.records if "slide by float32" in r.getMessage()]
    assert "off when full: off; slid: off. Judged on more people" in warning
    assert "\n" not in warning
    trunks = {"frames.int8.onnx", "frames.int8.tensorrt.onnx"}
    assert set(result.graphs) == trunks | {"head.fp16.onnx"}
    assert result.precisions["int8"].cuts is None
    assert result.precisions["int8"].judged["onnxruntime, window slid"]["cosine"]["smallest"] < 1
    assert read_manifest(reduced).precisions["int8"].cuts is None  # its products are too small
    encoder = load(reduced, precision="int8")
    assert encoder.info.slides
    plain = load(reduced, precision="float32")
    np.testing.assert_array_equal(encoder.taps(ROWS)[0], plain.taps(ROWS)[0])
