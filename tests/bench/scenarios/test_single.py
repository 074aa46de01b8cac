"""Scenario `single`: samples per frame, ratios that follow, answers of the window."""

from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from standin_encoders import Wrong

from cstl_edge.bench import inputs
from cstl_edge.bench.backends.base import BASELINE, StreamingBackend
from cstl_edge.bench.record import Case
from cstl_edge.bench.scenarios import single, streaming_cases
from cstl_edge.measure.timing import Timing
from cstl_edge.runtime import load

pytestmark = pytest.mark.usefixtures("everybody")


@pytest.fixture(autouse=True)
def without_openvino(monkeypatch):
    """Leave out OpenVINO's whole windows, which compile for long."""
    monkeypatch.setattr(single, "selected", lambda context, name: "openvino" not in name)


def median(samples):
    """trtexec's, counted anew."""
    ordered = np.sort(samples)
    return float(ordered[len(ordered) - 1 - int(0.5 * len(ordered))])


def figures(rows, **case):
    """Return the rows with samples of a case, by backend."""
    return {
        row.contender: row
        for row in rows
        if row.samples and all(getattr(row.case, key) == value for key, value in case.items())
    }


def test_every_case_has_rows_with_samples_and_right_answers(reduced):
    rows = [*single.rows(reduced)]
    for row in (row for row in rows if row.samples):
        assert row.check.ok
        assert row.check.cosine > 0.95
        assert len(row.samples["wall"]) >= 3
        assert row.values == {}  # nobody ran the baseline
    for hop in (1, 5):
        measured = figures(rows, graph="streaming", hop=hop, paced_hz=None)
        assert {"onnxruntime float32", "onnxruntime int8"} <= {*measured}
    whole = figures(rows, graph="streaming", hop=1, paced_hz=None)
    assert whole["onnxruntime float32, whole windows"].ran.options == {"windows": "whole"}
    assert whole["onnxruntime float32"].ran.options == {"windows": "slide"}
    assert "onnxruntime int8" in figures(rows, graph="full", paced_hz=None)
    assert {*figures(rows, paced_hz=25.0)} >= {"onnxruntime float32", "onnxruntime int8"}
    assert not [row for row in rows if row.skipped and row.samples]


def test_ratios_follow_from_the_raw_samples_of_the_run(trained):
    rows = [row for row in single.rows(trained) if row.samples and row.case.paced_hz is None]
    baseline = median(figures(rows, graph="full")[BASELINE].samples["wall"])
    assert len(rows) > 6
    for row in rows:
        own, hop = median(row.samples["wall"]), row.case.hop or 1
        assert row.values["times_as_fast_as_usual"] == pytest.approx(baseline / hop / own, abs=1e-3)
        more = row.values.get("times_as_fast_as_usual_at_every_frame")
        assert (more is None) == (hop == 1)
        assert more is None or more == pytest.approx(baseline / own, abs=1e-3)
        assert row.check.reference.startswith(BASELINE)


def test_another_trunk_is_held_against_the_papers_too(trained, monkeypatch):
    assert [*single._papers_trunk(trained, ExitStack())] == []  # it has the paper's
    config = single.read_manifest(trained.folder).config
    other = SimpleNamespace(config={**config, "trunk": "unshuffled"})
    monkeypatch.setattr(single, "read_manifest", lambda folder: other)
    monkeypatch.setattr(single, "random_checkpoint", lambda config: trained.weights)
    with ExitStack() as stack:
        (case,) = single._papers_trunk(replace(trained, short=False), stack)
        case.run()
        case.check()
    assert (case.name, case.output_check.ok) == (f"{BASELINE}, the paper's trunk", True)
    assert not case.is_baseline
    values = single.speedups(Case(hop=5), own_ms=2.0, baseline_ms=100.0, papers_ms=600.0)
    assert values["times_as_fast_as_papers_trunk"] == 60.0


def test_a_sample_of_a_hop_is_divided_by_its_frames(reduced, monkeypatch):
    paces = []

    def measure_interleaved(runs, **how):
        paces.append(how["paced_hz"])
        return {key: Timing({"wall": [5.0, 10.0]}) for key in runs}

    monkeypatch.setattr(single, "measure_interleaved", measure_interleaved)
    rows = [row for row in single.rows(reduced) if row.samples]
    assert paces == [None, 25.0]
    for row in rows:
        hop = row.case.hop if row.case.paced_hz is None else 1
        divided = hop or 1
        assert row.samples["wall"] == [5.0 / divided, 10.0 / divided]
        assert row.details["frames_per_sample"] == divided


def test_a_backend_with_wrong_answers_has_no_time(reduced, monkeypatch):
    def streaming_backends(context):
        right = lambda: load(context.folder, threads=1)  # noqa: E731
        yield StreamingBackend("onnxruntime float32", open_encoder=right)
        yield StreamingBackend("onnxruntime int8", open_encoder=lambda: Wrong(right()))

    monkeypatch.setattr(single, "streaming_backends", streaming_backends)
    monkeypatch.setattr(single, "backends", lambda context: iter([]))
    rows = [*single.rows(reduced)]
    wrong = [row for row in rows if row.contender == "onnxruntime int8"]
    assert len(wrong) == 2
    for row in wrong:
        assert not row.check.ok
        assert not row.samples
        assert row.skipped.startswith("answers wrongly: cosine")
    paced = ["onnxruntime float32", "onnxruntime float32, whole windows"]
    assert sorted(figures(rows, paced_hz=25.0)) == paced


def test_a_missing_backend_has_a_row_with_the_reason(plain):
    reasons = {row.contender: row.skipped for row in single.rows(plain) if row.skipped}
    assert "--precision int8" in reasons["onnxruntime int8"]


@pytest.mark.parametrize("hop", [1, 3, 5])
@pytest.mark.parametrize("frames", [0, 1, 4, 31])
def test_the_answer_of_a_stream_is_compared_with_its_own_window(plain, hop, frames):
    encoder = load(plain.folder, threads=1)
    walk, _ = inputs.walk(10, plain.model.size)
    reference = streaming_cases.Reference("onnxruntime float32", encoder, walk)
    case = streaming_cases.stream_case("x", encoder, reference, hop, slide=True)
    for _ in range(frames):
        case.step()
    case.check()
    assert case.output_check.ok
    assert case.output_check.count == 1
    right = reference.outputs_after
    reference.outputs_after = lambda seen: right(seen + 1)  # a frame beside: the check can fail
    case.check()
    assert not case.output_check.ok


def test_a_reference_knows_every_turn_of_the_walk(plain):
    encoder = load(plain.folder, threads=1)
    walk, _ = inputs.walk(6, plain.model.size)
    reference = streaming_cases.Reference("x", encoder, walk)
    for seen in (6, 7, 11, 20):
        window = np.stack([walk[t % 6] for t in range(seen - 6, seen)])[None]
        expected = encoder.encode(window).embedding
        np.testing.assert_allclose(reference.outputs_after(seen)["embedding"], expected, atol=1e-5)


def test_paced_streams_have_no_warning_for_frames_that_differ():
    warnings = ["unstable clocks: times vary by 50 %", "late: p99"]
    case = Case(hop=5, paced_hz=25.0)
    assert single._warnings(warnings, case) == ["late: p99"]
    assert single._warnings(warnings, Case(hop=1, paced_hz=25.0)) == warnings
    assert single._warnings(warnings, Case(hop=5)) == warnings
