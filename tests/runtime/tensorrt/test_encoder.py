"""Engines: the answers of ONNX Runtime, through buckets, filler rows and CUDA graphs.

TensorRT and the GPU are stand-ins (`tests/standins`): the engines are the golden graphs in ONNX
Runtime, so that everything around them is what is tested.
"""

import copy
import gc
import logging
import sys
import threading
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from standin_cuda import GONE, OUT_OF_MEMORY, Device, NumpyBuffers
from standin_engines import MOST_FRAMES, WINDOW, profiles, seal
from standin_tensorrt import State, make

from cstl_edge.errors import BackendUnavailable, ModelError
from cstl_edge.runtime import load
from cstl_edge.runtime.streaming.encoder import StreamingEncoder
from cstl_edge.runtime.tensorrt.session import frame_bucket, row_bucket


@pytest.fixture(params=[("Orin", 87)])
def state(monkeypatch, request):
    """A machine: an Orin with TensorRT 10.3.0, and what happens on it."""
    state = State(Device(*request.param))
    monkeypatch.setitem(sys.modules, "tensorrt", make(state))
    monkeypatch.setattr(
        "cstl_edge.runtime.tensorrt.encoder.open_buffers", lambda: NumpyBuffers(state.device)
    )
    return state


@pytest.fixture
def engines(folder, state):
    """An encoder on engines that fit."""
    seal(folder, gpu=state.device.name, sm=state.device.sm)
    encoder = load(folder, backend="tensorrt")
    yield encoder
    encoder.close()


def random_silhouettes(*shape):
    rng = np.random.default_rng(0)
    return rng.integers(0, 2, (*shape, 16, 12), dtype=np.uint8) * np.uint8(255)


both_memories = pytest.mark.parametrize(
    "state", [("Orin", 87), ("RTX 4090", 89)], indirect=True, ids=["shared memory", "own memory"]
)


@both_memories
def test_engines_agree_with_pytorch(engines, expected):
    for _ in range(3):  # plain and captured, then twice replayed
        embedded = engines.encode(expected["silhouettes"], expected["lengths"])
        np.testing.assert_allclose(embedded.embedding, expected["embedding"], atol=1e-5)
        np.testing.assert_array_equal(embedded.salient_frames, expected["salient_frames"])
    assert (embedded.embedding.dtype, embedded.salient_frames.dtype) == (np.float32, np.int32)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 32, 33, 70])
def test_any_number_of_walkers_in_any_order(engines, tiny, rows):
    silhouettes = random_silhouettes(rows)
    features = engines.frames(silhouettes)
    np.testing.assert_allclose(features, tiny.frames(silhouettes), atol=1e-5)
    windows = np.stack([features] * WINDOW, 1)  # [n, s, p, c]
    windows[:, 1:] *= np.linspace(0, 1, WINDOW - 1, dtype=np.float32)[:, None, None]
    lengths = (np.arange(rows) % WINDOW + 1).astype(np.int32)
    for _ in range(2):
        actual, reference = engines.head(windows, lengths), tiny.head(windows, lengths)
        np.testing.assert_allclose(actual.embedding, reference.embedding, atol=1e-5)
        np.testing.assert_array_equal(actual.salient_frames, reference.salient_frames)


@pytest.mark.parametrize("frames", [1, WINDOW - 1, WINDOW, WINDOW + 1, MOST_FRAMES])
def test_any_number_of_frames_up_to_the_built_maximum(engines, tiny, frames):
    silhouettes = random_silhouettes(2, frames)
    actual, reference = engines.encode(silhouettes), tiny.encode(silhouettes)
    np.testing.assert_allclose(actual.embedding, reference.embedding, atol=1e-5)


def test_more_frames_than_built_for_name_the_build_option(engines):
    with pytest.raises(ModelError, match=r"at most 24 frames.*--frames"):
        engines.encode(random_silhouettes(1, MOST_FRAMES + 1))


def test_filler_rows_leave_no_trace(engines):
    features = engines.frames(random_silhouettes(4))
    windows = np.stack([features] * WINDOW, 1)
    lengths = np.full(4, WINDOW, np.int32)
    four = engines.head(windows, lengths)
    three = engines.head(windows[:3], lengths[:3])  # the fourth row is a filler now
    np.testing.assert_allclose(three.embedding, four.embedding[:3], atol=1e-6)
    assert len(three.embedding) == len(three.salient_frames) == 3


def test_answers_do_not_change_at_later_calls(engines):
    first = engines.frames(random_silhouettes(2))
    copy = first.copy()
    engines.frames(np.zeros((2, 16, 12), np.uint8))
    np.testing.assert_array_equal(first, copy)


def test_calls_of_one_bucket_share_a_context_and_a_graph(engines, state):
    for rows in (3, 4, 3):
        engines.frames(random_silhouettes(rows))
    assert len(state.contexts) == 1
    assert len(state.device.graphs) == 1
    engines.frames(random_silhouettes(1))
    assert len(state.contexts) == 2
    memory = len(state.device.memory)
    for rows in (1, 2, 3, 4) * 3:
        engines.frames(random_silhouettes(rows))
    assert len(state.device.memory) == memory + 3  # one bucket more: an Orin shares silhouettes


def test_one_walker_in_a_full_window_has_a_profile_of_its_own(engines, state):
    features = np.zeros((1, WINDOW, 4, 16), np.float32)
    engines.head(features, np.array([WINDOW], np.int32))
    engines.head(np.concatenate([features] * 2), np.full(2, WINDOW, np.int32))
    one, many = [context.profile["features"]["max"][0] for context in state.contexts]
    assert (one, many) == (1, 32)


def test_longer_windows_run_without_a_graph(engines, state):
    engines.head(np.zeros((1, WINDOW + 1, 4, 16), np.float32), np.array([WINDOW], np.int32))
    assert not state.device.graphs


def test_a_gpu_without_capture_is_logged_and_runs_without_graphs(engines, state, tiny, caplog):
    state.device.graphs_allowed = False
    silhouettes = random_silhouettes(3)
    for _ in range(2):
        features = engines.frames(silhouettes)
        np.testing.assert_allclose(features, tiny.frames(silhouettes), atol=1e-5)
    warnings = [r.levelno for r in caplog.records if "without a CUDA graph" in r.message]
    assert warnings == [logging.WARNING]


def test_a_graph_with_other_outputs_is_not_used(engines, state, tiny, caplog):
    state.stale_graphs = True
    silhouettes = random_silhouettes(3)
    np.testing.assert_allclose(engines.frames(silhouettes), tiny.frames(silhouettes), atol=1e-5)
    assert "it gave other numbers" in caplog.text
    replays, state.stale_graphs = state.device.replays, False
    engines.frames(silhouettes)
    assert state.device.replays == replays


def test_encoder_info_describes_the_engines(engines):
    info = engines.info
    assert info.backend == "tensorrt"
    assert info.provider == "Orin (TensorRT 10.3.0, function body, numpy)"
    assert (info.precision, info.size, info.parts, info.channels) == ("float32", (16, 12), 4, 16)
    assert info.impostors["sizes"] == [1, 2]


def on_the_host(engines):
    """The same engines to somebody who does not know that they keep windows."""
    host = copy.copy(engines)
    host.info = replace(engines.info, keeps_windows=False)
    return host


@both_memories
@pytest.mark.parametrize("window", [WINDOW, WINDOW - 2, WINDOW + 3])
def test_streaming_agrees_with_the_host_and_with_onnx_runtime(engines, tiny, window):
    """Rings of walkers who come, go and wait; windows that are full and not."""
    frames = random_silhouettes(4, 3 * WINDOW)  # [walkers, s, h, w]
    encoders = (engines, on_the_host(engines), tiny)
    streams = [StreamingEncoder(e, window, 2, min_frames=2, max_walkers=3) for e in encoders]
    for t in range(3 * WINDOW):
        walkers = [0, 1] if t % 2 else [0, 1, 2]
        if t == WINDOW:
            for stream in streams:
                stream.close(2)
        pushed = {w if t < WINDOW or w != 2 else 3: frames[w, t] for w in walkers}
        actual, host, reference = (stream.push(pushed) for stream in streams)
        assert actual.keys() == host.keys() == reference.keys()
        for walker, result in actual.items():
            np.testing.assert_array_equal(result.embedding, host[walker].embedding)
            np.testing.assert_array_equal(result.salient_frames, host[walker].salient_frames)
            np.testing.assert_allclose(result.embedding, reference[walker].embedding, atol=1e-5)
            assert result.window_frames == reference[walker].window_frames
            assert result.frames_seen == reference[walker].frames_seen


@both_memories
def test_features_stay_on_the_gpu(engines, state):
    """Between `frames` and `head` they are copied within the GPU's memory, and nowhere else."""
    engines.warm_up(4)
    stream = StreamingEncoder(engines, WINDOW, 1, min_frames=1)
    memory, contexts = len(state.device.memory), len(state.contexts)
    features = {context.addresses["features"] for context in state.contexts}
    state.device.copies.clear()
    silhouettes = random_silhouettes(WINDOW + 1, 3)
    for frame in silhouettes[:WINDOW]:
        stream.push(dict(enumerate(frame)))
    state.device.copies.clear()
    replays = state.device.replays
    assert len(stream.push(dict(enumerate(silhouettes[-1])))) == 3
    kinds = [kind for kind, address, _ in state.device.copies if address in features]
    assert set(kinds) <= {"copy"}
    row = 4 * 16 * 4  # p · c floats
    sizes = [nbytes for kind, _, nbytes in state.device.copies if kind == "copy"]
    assert sum(sizes) == 3 * row + 3 * WINDOW * row  # each newest frame, each window
    assert state.device.replays == replays + 2  # frames and head as CUDA graphs
    assert len(state.device.memory) == memory
    assert len(state.contexts) == contexts


def test_memory_of_windows_is_used_again(engines, state):
    held = []
    for _ in range(3):
        stream = StreamingEncoder(engines, WINDOW, 1)
        stream.push({0: random_silhouettes(1)[0]})
        held.append(set(state.device.memory))
        del stream
        gc.collect()
    assert held[0] == held[1] == held[2]


def test_windows_larger_than_built_for_name_the_build_option(engines):
    with pytest.raises(ModelError, match=r"got 25 frames.*--frames"):
        StreamingEncoder(engines, MOST_FRAMES + 1)


def test_a_gpu_that_fails_loses_the_windows_and_goes_on(engines, state, tiny, monkeypatch, caplog):
    """Walkers begin anew; what they get later is what the frames since then give."""
    frames = random_silhouettes(2, 3 * WINDOW)
    stream = StreamingEncoder(engines, WINDOW, 1, min_frames=WINDOW)
    reference = StreamingEncoder(tiny, WINDOW, 1, min_frames=WINDOW)

    def after_a_while():
        state.device.fault = None
        return NumpyBuffers(state.device)

    for t in range(2 * WINDOW + 2):
        pushed = {w: frames[w, t] for w in range(2)}
        if t == WINDOW + 2:
            state.device.fault = GONE
            monkeypatch.setattr("cstl_edge.runtime.tensorrt.encoder.open_buffers", after_a_while)
        answers = stream.push(pushed)
        if t < WINDOW - 1 or WINDOW + 2 <= t < 2 * WINDOW + 1:
            assert not answers
        if t >= WINDOW + 2:
            expected = reference.push(pushed)
    assert "windows of 2 walkers were lost" in caplog.text
    assert set(answers) == set(expected) == {0, 1}
    for walker, answer in answers.items():
        np.testing.assert_allclose(answer.embedding, expected[walker].embedding, atol=1e-5)
        assert (answer.window_frames, answer.frames_seen) == (WINDOW, 2 * WINDOW + 2)


def test_every_thread_has_contexts_of_its_own(engines, state, tiny):
    silhouettes = random_silhouettes(2)
    expected, wrong = tiny.frames(silhouettes), []

    def work():
        if not np.allclose(engines.frames(silhouettes), expected, atol=1e-5):
            wrong.append("other numbers")

    work()
    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert not wrong
    assert len(state.contexts) == len(state.device.streams) == 3
    assert len({id(context.engine) for context in state.contexts}) == 1
    assert state.deserialised == 2  # frames and head, once for all threads
    engines.close()
    assert not state.device.streams
    assert not state.device.memory


def test_contexts_of_a_thread_compute_in_one_block(engines, state, tiny):
    """As large as the largest needs, whatever the order; graphs follow when it moves."""
    for rows in (1, 32, 2, 1, 32):
        silhouettes = random_silhouettes(rows)
        features = engines.frames(silhouettes)
        np.testing.assert_allclose(features, tiny.frames(silhouettes), atol=1e-5)
        windows = np.stack([features] * WINDOW, 1)  # [n, s, p, c]
        lengths = np.full(rows, WINDOW, np.int32)
        actual, reference = engines.head(windows, lengths), tiny.head(windows, lengths)
        np.testing.assert_allclose(actual.embedding, reference.embedding, atol=1e-5)
    largest = max(context.update_device_memory_size_for_shapes() for context in state.contexts)
    newest = [context.scratch for context in state.contexts if context.runs][-1]
    assert newest[1] == largest
    assert list(state.device.memory).count(newest[0]) == 1
    scratches = {context.scratch[0] for context in state.contexts} & set(state.device.memory)
    assert scratches == {newest[0]}  # what was outgrown is given back


def test_a_context_that_does_not_say_its_size_gets_that_of_its_profile(folder, state, tiny):
    seal(folder)
    state.sizes_unknown = True
    with closing(load(folder, backend="tensorrt")) as encoder:
        silhouettes = random_silhouettes(2)
        np.testing.assert_allclose(encoder.frames(silhouettes), tiny.frames(silhouettes), atol=1e-5)
    profile = profiles()["frames"][1]["silhouettes"]["max"]
    assert {context.scratch[1] for context in state.contexts} == {8 * int(np.prod(profile))}


def test_warmed_up_nothing_is_made_while_walkers_come(engines, state):
    engines.warm_up(5)
    contexts, memory = len(state.contexts), len(state.device.memory)
    assert len(state.device.graphs) == contexts == 8  # 1, 2, 4 and 8 walkers, frames and head
    runs = state.device.replays
    for rows in (1, 2, 3, 4, 5):
        features = engines.frames(random_silhouettes(rows))
        engines.head(np.stack([features] * WINDOW, 1), np.full(rows, WINDOW, np.int32))
    assert len(state.contexts) == contexts
    assert len(state.device.memory) == memory
    assert state.device.replays == runs + 10


@pytest.mark.parametrize("walkers", [1, 32, 1000])
def test_any_number_of_walkers_is_warmed_up_as_far_as_the_engine_goes(engines, state, walkers):
    engines.warm_up(walkers)
    largest = max(c.shapes["silhouettes"][0] for c in state.contexts if "silhouettes" in c.shapes)
    assert largest == min(walkers, 32)


def test_a_tensorrt_that_cannot_start_cuda_is_refused(folder, state):
    """It returns an object all the same, whose next call would end the process."""
    seal(folder)
    state.start_error = "CUDA initialization failure with error: 35"
    with pytest.raises(BackendUnavailable) as error:
        load(folder, backend="tensorrt")
    message = str(error.value)
    assert "TensorRT 10.3.0" in message
    assert "error: 35" in message
    assert "driver" in message
    assert not state.device.streams


def test_a_closed_encoder_is_refused(engines):
    engines.close()
    with pytest.raises(ModelError, match="closed"):
        engines.frames(random_silhouettes(1))


@pytest.mark.parametrize("fault", [OUT_OF_MEMORY, GONE])
def test_a_gpu_that_keeps_failing_is_an_error(engines, state, fault):
    engines.frames(random_silhouettes(2))
    state.device.fault = fault
    with pytest.raises(BackendUnavailable, match="Start the process again"):
        engines.frames(random_silhouettes(2))


def test_a_gpu_that_fails_once_is_reopened(engines, state, tiny, caplog, monkeypatch):
    silhouettes = random_silhouettes(2)
    engines.frames(silhouettes)
    state.device.fault = GONE

    def after_a_while():
        state.device.fault = None
        return NumpyBuffers(state.device)

    monkeypatch.setattr("cstl_edge.runtime.tensorrt.encoder.open_buffers", after_a_while)
    np.testing.assert_allclose(engines.frames(silhouettes), tiny.frames(silhouettes), atol=1e-5)
    assert "opened once more" in caplog.text
    assert state.deserialised == 4
    assert len(state.device.streams) == 1


def test_a_context_that_cannot_be_created_is_an_error(engines, state):
    state.refuse_context = True
    with pytest.raises(BackendUnavailable, match="GPU memory"):
        engines.frames(random_silhouettes(1))


def test_an_engine_for_fewer_walkers_takes_them_in_pieces(folder, state, tiny):
    seal(folder, limits=profiles(walkers=5))
    engines = load(folder, backend="tensorrt")
    silhouettes = random_silhouettes(11)
    np.testing.assert_allclose(engines.frames(silhouettes), tiny.frames(silhouettes), atol=1e-5)
    assert max(context.shapes["silhouettes"][0] for context in state.contexts) == 4


def test_buckets_hold_the_rows_they_are_chosen_for():
    for rows in range(1, 33):
        assert rows <= row_bucket(rows) < 2 * rows + 1
    for frames in range(1, 200):
        assert frames <= frame_bucket(frames, 30, 240) <= 240
