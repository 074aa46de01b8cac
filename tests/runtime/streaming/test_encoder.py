"""StreamingEncoder: the same embeddings as the full network, whatever else is in the batch."""

import dataclasses
import logging
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cstl_edge.errors import ConfigError, DataError
from cstl_edge.runtime.base import Embedded
from cstl_edge.runtime.streaming.encoder import StreamingEncoder

ATOL = 1e-4
WALKERS = 4
BLANK = np.zeros((8, 6), np.uint8)  # a silhouette for the stand-ins


WINDOWS = st.integers(1, 7)


@st.composite
def scenes(draw, windows=WINDOWS, frames=25):
    """Window, hop, first answer, and who is seen in each of some frames."""
    window = draw(windows)
    hop = draw(st.integers(1, 5))
    min_frames = draw(st.none() | st.integers(1, window))
    seen = draw(st.lists(st.sets(st.integers(0, WALKERS - 1)), min_size=1, max_size=frames))
    return window, hop, min_frames, seen


def long_scenes():
    """Windows from those that are all border to those with an inside, seen sliding."""
    return scenes(st.integers(1, 6) | st.integers(9, 16), 40)


def follow(encoder, scene, seed=0, slide=True):
    """Stream a scene and compare every answer with the full network; return the answers."""
    window, hop, min_frames, seen = scene
    stream = StreamingEncoder(encoder, window, hop, min_frames, slide=slide)
    rng = np.random.default_rng(seed)
    walks = {walker: [] for walker in range(WALKERS)}
    answers = {walker: [] for walker in range(WALKERS)}
    for walkers in seen:
        frame = {}
        for walker in walkers:
            silhouette = rng.integers(0, 2, encoder.info.size, dtype=np.uint8) * np.uint8(255)
            walks[walker].append(silhouette)
            frame[walker] = silhouette
        for walker, result in stream.push(frame).items():
            compare(encoder, walks[walker], window, result)
            answers[walker].append(result.frames_seen)
    return walks, answers


def compare(encoder, walk, window, result):
    assert result.frames_seen == len(walk)
    assert result.window_frames == min(len(walk), window)
    whole = encoder.encode(np.stack(walk[-window:])[None])
    np.testing.assert_allclose(result.embedding, whole.embedding[0], atol=ATOL)
    np.testing.assert_array_equal(result.salient_frames, whole.salient_frames[0])


@given(scenes())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whole_windows_agree_with_the_full_network_in_numpy(standin, scene):
    follow(standin, scene)


@given(long_scenes())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sliding_windows_agree_with_the_full_network_in_numpy(sliding_standin, scene):
    follow(sliding_standin, scene)


@given(long_scenes())
@settings(max_examples=30, deadline=None)
def test_sliding_windows_agree_with_the_full_network_in_onnx_runtime(tiny, scene):
    assert tiny.info.slides
    follow(tiny, scene)


@given(scenes())
@settings(max_examples=15, deadline=None)
def test_whole_windows_agree_with_the_full_network_in_onnx_runtime(tiny, scene):
    follow(tiny, scene, slide=False)


@given(long_scenes())
@settings(max_examples=20, deadline=None)
def test_sliding_windows_agree_with_the_full_network_in_pytorch(random_network, scene):
    assert random_network.info.slides
    follow(random_network, scene)


@pytest.mark.parametrize("walkers", [1, 3])
def test_a_long_walk_agrees_with_the_full_network(tiny, walkers):
    everyone = [set(range(walkers))] * 100
    _, answers = follow(tiny, (30, 1, None, everyone), seed=4)
    assert [len(answers[walker]) for walker in range(walkers)] == [71] * walkers


@pytest.fixture(scope="module")
def random_network():
    torch = pytest.importorskip("torch", reason="the reference backend needs torch")
    from cstl_edge.model import Cstl, CstlConfig
    from cstl_edge.runtime.backends.pytorch import TorchEncoder

    torch.manual_seed(3)
    config = CstlConfig(size=(16, 12), widths=(4, 8, 16, 16), parts=4, embedding=8)
    return TorchEncoder(Cstl(config))


@given(scenes())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_answers_come_in_time(standin, scene):
    window, hop, min_frames, seen = scene
    everyone = [set(range(WALKERS))] * len(seen)  # all are always there
    walks, answers = follow(standin, (window, hop, min_frames, everyone))
    first = min_frames or window
    for walker, walk in walks.items():
        if len(walk) >= first + hop - 1:
            assert first <= answers[walker][0] < first + hop
        assert set(np.diff(answers[walker])) <= {hop}
        if answers[walker]:
            assert len(walk) - answers[walker][-1] < hop


@pytest.mark.parametrize(("walkers", "share"), [(1, 1), (5, 1), (7, 2), (10, 2), (23, 5)])
def test_heads_do_not_fall_due_together(standin, walkers, share):
    stream = StreamingEncoder(standin, window=6, hop=5)
    frame = dict.fromkeys(range(walkers), BLANK)
    per_push = [len(stream.push(frame)) for _ in range(26)]
    assert max(per_push) == share
    assert per_push[:5] == [0] * 5
    assert sum(per_push[5:]) >= 4 * walkers  # 21 frames after the first full window


def test_a_frame_costs_one_batch_of_each(standin):
    stream = StreamingEncoder(standin, window=4, hop=2)
    frame = dict.fromkeys("abcd", BLANK)
    for _ in range(4):
        stream.push(frame)
    assert standin.calls == [("frames", 4)] * 4 + [("head", [4, 4])]


def test_a_slide_runs_only_the_frames_that_it_changes(sliding_standin):
    stream = StreamingEncoder(sliding_standin, window=20, hop=1)
    assert stream.slides
    for _ in range(22):
        stream.push({"a": BLANK})
    head_calls = [call for call in sliding_standin.calls if call[0] != "frames"]
    assert head_calls[:3] == [("taps", 20), ("mix", 20), ("slide", [20])]
    assert (
        head_calls[3:] == [("taps", 1), ("mix", 5), ("slide", [20])] * 2
    )  # 2 at the beginning, 3 last


def test_a_slide_costs_one_batch_of_frames(sliding_standin):
    stream = StreamingEncoder(sliding_standin, window=20, hop=2)
    frame = dict.fromkeys("abc", BLANK)
    for _ in range(30):
        stream.push(frame)
    head_calls = [call for call in sliding_standin.calls if call[0] != "frames"]
    assert head_calls[-4:] == [("taps", 4), ("mix", 12), ("slide", [20]), ("slide", [20])]


def test_parallel_answers_belong_to_their_walkers(sliding_standin):
    sliding_standin.info = dataclasses.replace(sliding_standin.info, threads=2)
    everybody = [set(range(WALKERS))] * 24
    _, answers = follow(sliding_standin, (12, 1, 3, everybody))
    assert all(len(frames) == 22 for frames in answers.values())


def test_whole_windows_on_request_and_without_an_incremental_head(standin, sliding_standin, caplog):
    for encoder, slide, why in (
        (standin, True, "the only form that this model has here"),
        (sliding_standin, False, "as asked for"),
    ):
        with caplog.at_level(logging.INFO):
            stream = StreamingEncoder(encoder, window=1, slide=slide)
        assert not stream.slides
        assert caplog.messages.pop() == f"windows go through the head whole, {why}"
        stream.push({1: BLANK})
        assert [name for name, _ in encoder.calls] == ["frames", "head"]


def test_walkers_seen_seldom_are_embedded_in_turn(standin):
    stream = StreamingEncoder(standin, window=4, hop=3)
    served = Counter()
    for t in range(60):
        here = {"always": BLANK} | ({"seldom": BLANK} if t % 3 == 0 else {})
        served.update(stream.push(here).keys())
    assert served["seldom"] == 6  # 20 frames: at 4, then every 3
    assert served["always"] >= 18


def test_short_windows_answer_early(standin):
    stream = StreamingEncoder(standin, window=10, hop=1, min_frames=3)
    frames = [stream.push({7: BLANK}).get(7) for _ in range(12)]
    assert frames[:2] == [None, None]
    assert [r.window_frames for r in frames[2:]] == [*range(3, 11), 10, 10]


def test_a_closed_walker_begins_anew(standin):
    stream = StreamingEncoder(standin, window=2, hop=1)
    stream.push({1: BLANK})
    stream.close(1)
    stream.close("never seen")
    assert len(stream) == 0
    assert stream.push({1: BLANK}) == {}
    assert stream.push({1: BLANK})[1].frames_seen == 2


def test_the_longest_unseen_walker_is_forgotten_never_one_of_this_frame(standin, caplog):
    stream = StreamingEncoder(standin, window=3, hop=1, max_walkers=3)
    for walker in (1, 2, 3):
        stream.push({walker: BLANK})
    with caplog.at_level(logging.WARNING):
        stream.push({4: BLANK, 1: BLANK})  # 1 was unseen longest, but is here
    assert stream.forgotten == 1
    assert "2 is forgotten" in caplog.text
    stream.push({1: BLANK})
    assert len(stream) == 3
    assert stream.push({1: BLANK})[1].frames_seen == 4


def test_more_walkers_than_allowed_in_one_frame_are_refused(standin):
    stream = StreamingEncoder(standin, max_walkers=2)
    frame = dict.fromkeys(range(3), BLANK)
    with pytest.raises(DataError, match=r"at most 2 walkers in a frame; got 3\. Raise"):
        stream.push(frame)


def test_one_wrong_silhouette_changes_no_walker(standin):
    stream = StreamingEncoder(standin, window=2, hop=1)
    good, bad = BLANK, np.zeros((3, 3), np.uint8)
    with pytest.raises(DataError, match=r"walker no\\n2: expected silhouettes as uint8 \[8, 6\]"):
        stream.push({"one": good, "no\n2": bad})
    assert len(stream) == 0
    assert standin.calls == []


def test_an_empty_frame_runs_no_graph(standin):
    assert StreamingEncoder(standin).push({}) == {}
    assert standin.calls == []


def test_nan_embeddings_are_held_back_and_warned_of_once(standin, monkeypatch, caplog):
    def head(features, lengths):
        embedding = np.zeros((len(features), 2, 4), np.float32)
        embedding[0] = np.nan
        return Embedded(embedding, np.zeros((len(features), 2), np.int32))

    monkeypatch.setattr(standin, "head", head)
    stream = StreamingEncoder(standin, window=1, hop=1)
    for _ in range(3):
        assert list(stream.push({"a": BLANK, "b": BLANK})) == ["b"]
    assert stream.not_finite == 3
    assert caplog.text.count("NaN") == 1


@pytest.mark.parametrize(
    "options",
    [{"window": 0}, {"hop": 0}, {"min_frames": 0}, {"max_walkers": 0}, {"min_frames": 31}],
)
def test_wrong_settings_are_refused(standin, options):
    with pytest.raises(ConfigError, match="expected window, hop"):
        StreamingEncoder(standin, **options)


def test_memory_is_bounded_by_the_walkers(standin):
    stream = StreamingEncoder(standin, window=5, hop=1, max_walkers=4)
    for walker in range(100):
        stream.push({walker: BLANK})
    held = sum(ring.features.nbytes for ring in stream._rings.values())
    assert held == 4 * 5 * standin.info.parts * standin.info.channels * 4


def test_memory_is_bounded_where_windows_slide(tiny):
    stream = StreamingEncoder(tiny, window=5, hop=1, max_walkers=4)
    for walker in range(20):
        for _ in range(6):
            stream.push({walker: np.zeros(tiny.info.size, np.uint8)})
    held = [values.nbytes for ring in stream._rings.values() for values in ring.kept.values()]
    assert sum(held) == 4 * 5 * 4 * (8 * 16 + 3) * 4  # 8 c + h floats a part and frame
