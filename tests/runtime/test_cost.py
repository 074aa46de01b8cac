"""The benchmark counts what it says it counts; no test here looks at a clock."""

from types import SimpleNamespace

import pytest

from cstl_edge.runtime import cost


def fake_clock(now, monkeypatch):
    """Let `cost` read and pass the time of `now`; other threads keep the real clock."""
    clock = SimpleNamespace(
        perf_counter=lambda: now[0],
        sleep=lambda seconds: now.__setitem__(0, now[0] + seconds),
    )
    monkeypatch.setattr(cost, "time", clock)


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 8, 13, 31])
def test_the_search_finds_the_most_walkers(limit):
    asked = []

    def run(walkers):
        asked.append(walkers)
        return [1.0] * 98 + [cost.BUDGET_MS + 1 if walkers > limit else 1.0] * 2

    most, tried = cost.most_walkers(run)
    assert most == limit
    assert sorted(tried) == sorted(asked) == sorted(set(asked))
    assert limit + 1 in tried


def test_the_search_ends():
    assert cost.most_walkers(lambda walkers: [1.0])[0] == cost.MOST_WALKERS


def test_every_contender_is_sampled_in_turn(standin):
    costs = cost.cost_of_a_frame(standin, standin, window=6, hop=3, rounds=8)
    assert {name: len(taken) for name, taken in costs.items()} == {
        "streaming, hop 1": 8,
        "streaming, hop 3": 8,
        "trunk, one frame": 8,
        "window anew, same runtime": 8,
        "window anew, eager PyTorch": 1,
    }
    heads = [lengths for name, lengths in standin.calls if name == "head"]
    # Before the rounds: one of hop 1 and one of hop 3; each of 10 rounds: two each, and the window.
    assert len(heads) == 2 + 10 * 5 + 3
    assert all(lengths == [6] for lengths in heads)


def test_where_windows_slide_whole_ones_are_sampled_too(sliding_standin):
    costs = cost.cost_of_a_frame(sliding_standin, None, window=12, hop=2, rounds=3)
    assert [name for name in costs if name.startswith("streaming")] == [
        "streaming, hop 1",
        "streaming, hop 2",
        "streaming, whole windows, hop 1",
        "streaming, whole windows, hop 2",
    ]
    kinds = [name for name, _ in sliding_standin.calls if name != "frames"]
    # 1 answer each before 5 rounds with 2 each; `head` serves 5 windows anew besides.
    assert [kinds.count(kind) for kind in ("taps", "mix", "slide")] == [22] * 3
    assert kinds.count("head") == 22 + 5


def test_another_precision_streams_in_the_same_run(standin, sliding_standin):
    others = {"int8": sliding_standin}
    costs = cost.cost_of_a_frame(standin, None, window=6, hop=2, rounds=3, others=others)
    assert {name: len(taken) for name, taken in costs.items()} == {
        "streaming, hop 1": 3,
        "streaming, hop 2": 3,
        "streaming, int8, hop 1": 3,
        "streaming, int8, hop 2": 3,
        "trunk, one frame": 3,
        "window anew, same runtime": 3,
    }
    assert {name for name, _ in sliding_standin.calls} == {"frames", "taps", "mix", "slide"}


def test_walkers_are_paced_and_all_answered(standin, monkeypatch):
    now = [0.0]
    fake_clock(now, monkeypatch)
    latencies = cost.paced(standin, walkers=4, window=5, hop=2, seconds=2.0)
    assert latencies == pytest.approx([0.0] * 2 * cost.FPS, abs=1e-6)
    assert now[0] == pytest.approx(2.0 - 1 / cost.FPS)
    assert {count for name, count in standin.calls if name == "frames"} == {4}


def test_being_late_adds_up_until_it_is_hopeless(standin, monkeypatch):
    now = [0.0]
    fake_clock(now, monkeypatch)
    frames = standin.frames

    def slow(silhouettes):
        now[0] += 2 / cost.FPS
        return frames(silhouettes)

    monkeypatch.setattr(standin, "frames", slow)
    latencies = cost.paced(standin, walkers=1, window=2, hop=1, seconds=100.0)
    assert latencies[:3] == pytest.approx([80.0, 120.0, 160.0])
    assert latencies[-1] > cost.HOPELESS_MS
    assert len(latencies) < 60
