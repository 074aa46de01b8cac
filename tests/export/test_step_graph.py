"""The graph `step`: equal to the graphs it is joined of, written where the walker's state lies."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from cstl_edge.errors import ExportError, ModelError
from cstl_edge.export.checks.step_check import check_step
from cstl_edge.export.step_graph import step_graph
from cstl_edge.runtime import load
from cstl_edge.runtime.manifest import STEP_FILE, read_manifest
from cstl_edge.runtime.streaming.encoder import StreamingEncoder
from cstl_edge.runtime.streaming.windows import SlidingWindows, SteppingWindows

WINDOW = 6


def walks(frames=40, size=(16, 12)):
    rng = np.random.default_rng(2)
    return (rng.random((2, frames, *size)) < 0.5) * np.uint8(255)


def stream(encoder, steps=True, **options):
    encoder.info = replace(encoder.info, steps=steps)
    return StreamingEncoder(encoder, WINDOW, **options)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_steps_answer_as_the_graphs_they_are_joined_of(reduced, precision):
    stepping = stream(load(reduced, "onnxruntime", precision=precision), hop=1)
    plain = stream(load(reduced, "onnxruntime", precision=precision), steps=False, hop=1)
    assert type(stepping._windows) is SteppingWindows
    assert type(plain._windows) is SlidingWindows
    for i, both in enumerate(zip(*walks(), strict=True)):
        # the second walker comes late and is away for a while: then several step beside each other
        shown = dict(enumerate(both)) if 10 <= i < 25 or i > 30 else {0: both[0]}
        expected, actual = plain.push(shown), stepping.push(shown)
        assert expected.keys() == actual.keys()
        for walker, answer in expected.items():
            np.testing.assert_allclose(actual[walker].embedding, answer.embedding, atol=1e-6)
            assert actual[walker].salient_frames.tolist() == answer.salient_frames.tolist()
    for walker in (0, 1):
        state, other = (s._rings[walker].state() for s in (plain, stepping))
        for name in ("kept_values", "kept_logits", "kept_judged", "kept_gates"):
            np.testing.assert_allclose(other[name], state[name], rtol=1e-4, atol=1e-5)


def test_a_network_with_many_weights_steps_one_walker_alone(reduced):
    encoder = load(reduced, "onnxruntime")
    encoder.step_graph().light = False
    stepping, plain = stream(encoder, hop=1), stream(load(reduced), steps=False, hop=1)
    for i, both in enumerate(zip(*walks(), strict=True)):
        shown = {0: both[0]} if i % 3 else dict(enumerate(both))
        expected, actual = plain.push(shown), stepping.push(shown)
        for walker, answer in expected.items():
            np.testing.assert_allclose(actual[walker].embedding, answer.embedding, atol=1e-6)
    assert len(stepping._windows._steps) == 1  # of the walker who was pushed alone


def test_an_answer_belongs_to_the_caller(reduced):
    stepping = stream(load(reduced), hop=1)
    answers = [stepping.push({0: frame}) for frame in walks()[0]]
    kept = answers[-2][0].embedding.copy()
    stepping.push({0: walks()[1][0]})
    np.testing.assert_array_equal(answers[-2][0].embedding, kept)
    assert not np.array_equal(answers[-1][0].embedding, kept)


def test_windows_that_answer_less_often_or_are_too_short_do_not_step(reduced):
    encoder = load(reduced)
    assert encoder.info.steps
    assert not isinstance(StreamingEncoder(encoder, WINDOW, hop=2)._windows, SteppingWindows)
    whole = StreamingEncoder(encoder, WINDOW, 1, slide=False)
    assert not isinstance(whole._windows, SlidingWindows)
    short = StreamingEncoder(encoder, 4, hop=1)
    for frame in walks()[0]:
        short.push({0: frame})
    assert not short._windows._steps


def test_a_closed_walker_is_forgotten(reduced):
    stepping = stream(load(reduced), hop=1)
    for frame in walks()[0]:
        stepping.push({0: frame})
    assert len(stepping._windows._steps) == 1
    stepping.close(0)
    assert not stepping._windows._steps


def test_folders_of_earlier_versions_slide_without_it(reduced, tmp_path):
    manifest = read_manifest(reduced)
    assert manifest.step_file("float32") == STEP_FILE
    assert manifest.step_file("int8") == "step.int8.onnx"
    assert manifest.step_file("fp16") is None
    for path in reduced.iterdir():
        if not path.name.startswith("step"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    files = {name: sha for name, sha in manifest.files.items() if not name.startswith("step")}
    variants = {
        name: variant.model_copy(update={"step": None})
        for name, variant in manifest.precisions.items()
    }
    earlier = manifest.model_copy(update={"files": files, "precisions": variants})
    (tmp_path / "manifest.json").write_text(earlier.model_dump_json(), encoding="utf-8")
    encoder = load(tmp_path)
    assert encoder.info.slides
    assert not encoder.info.steps
    with pytest.raises(ModelError, match="has no `step`"):
        encoder.step_graph()


def test_a_step_of_other_weights_is_refused(reduced):
    shape = read_manifest(reduced).shape
    files = {name: (reduced / f"{name}.onnx").read_bytes() for name in ("taps", "mix", "slide")}
    files["frames"] = (reduced / "frames.onnx").read_bytes()
    models = {name: onnx.load_model_from_string(data) for name, data in files.items()}
    joined = step_graph(models, shape)
    assert check_step(STEP_FILE, joined.SerializeToString(), files, shape) < 1e-6
    largest = max(
        (t for t in joined.graph.initializer if t.name.startswith("slide/")),
        key=lambda tensor: len(tensor.raw_data),
    )
    values = onnx.numpy_helper.to_array(largest) * 2
    largest.CopyFrom(onnx.numpy_helper.from_array(values.astype(values.dtype), largest.name))
    with pytest.raises(ExportError, match=r"step\.onnx: an embedding differs"):
        check_step(STEP_FILE, joined.SerializeToString(), files, shape)
