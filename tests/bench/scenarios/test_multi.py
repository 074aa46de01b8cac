"""Scenario `multi`: paced runs, and the search for how many walkers hold, without a clock."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from standin_encoders import Wrong

from cstl_edge.bench.backends.base import StreamingBackend
from cstl_edge.bench.scenarios import multi, streaming_cases
from cstl_edge.bench.scenarios.multi import BUDGET_MS, MOST_WALKERS, PacedTrial, first_guess, search
from cstl_edge.bench.scenarios.shared import CAMERA_HZ
from cstl_edge.runtime import load

FINE, LATE = [1.0] * 100, [BUDGET_MS + 1] * 100
HICCUP = [1.0] * 95 + [BUDGET_MS + 1] * 5
STALL = [18.0] * 31 + [200.0 - 20 * i for i in range(9)] + [15.0] * 10  # of 50 frames, one stall

pytestmark = pytest.mark.usefixtures("everybody")


def machine(limit, runs=None):
    """Return a run that holds up to `limit` walkers."""

    def run(walkers, seconds):
        if runs is not None:
            runs.append((walkers, seconds))
        return FINE if walkers <= limit else LATE

    return run


@pytest.mark.parametrize("guess", [-3, 1, 5, 24, 200, 10**6])
@pytest.mark.parametrize("limit", [1, 2, 7, 23, 24, 25, 300])
def test_the_search_ends_at_the_last_number_that_holds(limit, guess):
    most, tried = search(machine(limit), 3.0, guess, most_tries=100)
    assert most == limit
    assert tried[-1].walkers == limit
    assert limit + 1 in [one.walkers for one in tried]
    assert len(tried) < 27


def test_with_a_step_it_ends_near_it():
    for limit in (24, 40, 100, 333):
        most, tried = search(machine(limit), 3.0, limit // 2, step=0.05, most_tries=100)
        assert 0.94 * limit <= most <= limit
        assert len(tried) < 12


def test_the_number_that_held_is_run_again_and_longer():
    runs = []
    _, tried = search(machine(12, runs), 3.0, 10, most_tries=100)
    assert runs[-1] == (12, 6.0)
    assert {seconds for _, seconds in runs[:-1]} == {3.0}
    assert [one.walkers for one in tried] == [walkers for walkers, _ in runs]


def test_a_lucky_try_is_no_headline():
    def run(walkers, seconds):
        return FINE if walkers <= (20 if seconds < 4 else 15) else LATE

    most, tried = search(run, 3.0, 18, step=0.05, most_tries=100)
    assert 10 <= most <= 15
    assert (tried[-1].walkers, tried[-1].in_time) == (most, True)


def test_one_hiccup_is_no_failure():
    seen = []

    def run(walkers, seconds):
        seen.append(walkers)
        first = seen.count(walkers) == 1
        return LATE if walkers > 9 else HICCUP if first else FINE

    assert search(run, 3.0, 8, most_tries=100)[0] == 9
    assert seen.count(10) == 2  # late throughout: run again as the limit that it seems to be


@pytest.mark.parametrize("stalled", range(1, 9))
def test_a_stall_of_the_machine_is_no_limit(stalled):
    """One trial of all has a stall of 200 ms, or is late throughout."""
    for broken in (STALL, LATE):
        runs = []

        def run(walkers, seconds, runs=runs, broken=broken):
            runs.append(walkers)
            if len(runs) == stalled:
                return broken
            return FINE if walkers <= 180 else LATE

        assert search(run, 2.0, 102, step=0.05)[0] >= 170


def test_two_hiccups_are_a_failure():
    def run(walkers, seconds):
        return FINE if walkers <= 5 else HICCUP

    assert search(run, 3.0, 8, most_tries=100)[0] == 5


def test_the_search_gives_0_where_nothing_holds():
    most, tried = search(machine(0), 3.0, 30, most_tries=100)
    assert most == 0
    assert tried[-1].walkers == 1
    assert not tried[-1].in_time


def test_the_search_ends_where_everything_holds():
    assert search(machine(10**9), 3.0, 30, most_tries=100)[0] == MOST_WALKERS


def test_the_search_is_patient_for_so_many_tries_only():
    for tries in (1, 3):
        most, tried = search(machine(100), 3.0, 10, most_tries=tries)
        assert len(tried) == tries + 1  # and the confirmation
        assert 10 <= most <= 100


def test_the_first_guess_follows_from_one_walker():
    assert first_guess([2.0, 4.0, 100.0, 4.0], walkers=8) == int(0.9 * 40 * 8 / 4.0)


def test_in_time_is_of_the_99th_percentile():
    assert PacedTrial(1, [1.0] * 99 + [BUDGET_MS + 1] * 1 + [1.0] * 100).in_time
    assert not PacedTrial(1, [1.0] * 97 + [BUDGET_MS] * 3).in_time
    assert not PacedTrial(1, HICCUP).hopeless
    assert not PacedTrial(1, STALL).hopeless
    assert PacedTrial(1, LATE).hopeless


def test_a_row_has_the_number_and_every_trial(reduced, monkeypatch):
    def paced(encoder, walkers, window, hop, seconds, slide):
        return [float(walkers) if slide else 2.0 * walkers] * max(1, int(25 * seconds))

    monkeypatch.setattr(multi, "paced_latencies", paced)
    monkeypatch.setattr(multi, "SHORT_TRIES", 100)
    monkeypatch.setattr(multi, "STEP", 0.0)
    rows = {row.contender: row for row in multi.rows(reduced)}
    assert {*rows} == {"onnxruntime float32", "onnxruntime int8", "tensorrt float16"}
    assert rows["tensorrt float16"].skipped
    for name in ("onnxruntime float32", "onnxruntime int8"):
        row = rows[name]
        assert row.values == {"walkers": 39, "walkers_per_core": 39}
        assert (row.case.walkers, row.case.hop, row.case.paced_hz) == (39, 5, 25)
        assert row.check.ok
        assert row.samples["latency"] == [39.0] * len(row.samples["latency"])
        tried = {one["walkers"]: one for one in row.details["tried"]}
        assert not tried[40]["in_time"]
        assert all(set(one["latency_ms"]) == {float(n)} for n, one in tried.items())
        assert row.details["guess"] == 36


def test_the_long_form_compares_ways_to_stream(plain, monkeypatch):
    def paced(encoder, walkers, window, hop, seconds, slide):
        return [float(walkers) if slide else 2.0 * walkers]

    monkeypatch.setattr(multi, "paced_latencies", paced)
    longer = dataclasses.replace(plain, short=False, full=True)
    rows = {row.contender: row.values.get("walkers") for row in multi.rows(longer)}
    assert rows["onnxruntime float32"] == 39
    assert rows["onnxruntime float32, whole windows"] == 19


def test_a_crowd_is_answered_like_its_windows(plain):
    encoder = load(plain.folder, threads=1)
    walk = np.random.default_rng(0).integers(0, 2, (12, *plain.model.size), np.uint8) * 255
    reference = streaming_cases.Reference("x", encoder, walk.astype(np.uint8))
    output_check = streaming_cases.crowd_check(encoder, reference, 4)
    assert output_check.ok
    assert output_check.count >= 2 * streaming_cases.CROWD
    assert not streaming_cases.crowd_check(Wrong(encoder), reference, 4).ok


def test_an_encoder_with_wrong_answers_is_not_searched(plain, monkeypatch):
    wrong = lambda: Wrong(load(plain.folder, threads=1))  # noqa: E731
    backend = StreamingBackend("onnxruntime int8", open_encoder=wrong)
    monkeypatch.setattr(multi, "streaming_backends", lambda context: iter([backend]))
    (row,) = multi.rows(plain)
    assert row.skipped.startswith("answers wrongly")
    assert not row.samples
    assert not row.values


@pytest.fixture
def now(monkeypatch):
    """Let `pace` read and pass the time of `now`; other threads keep the real clock."""
    now = [0.0]
    clock = SimpleNamespace(
        perf_counter=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds)
    )
    monkeypatch.setattr(multi, "time", clock)
    return now


@pytest.fixture
def calls(plain, now, monkeypatch):
    """An encoder, how many silhouettes each call saw, and the seconds that a call takes."""
    encoder, seen, takes = load(plain.folder, threads=1), [], [0.0]
    frames = encoder.frames

    def counted(silhouettes):
        seen.append(len(silhouettes))
        now[0] += takes[0]
        return frames(silhouettes)

    monkeypatch.setattr(encoder, "frames", counted)
    return encoder, seen, takes


def test_walkers_are_paced_and_all_answered(calls, now):
    encoder, seen, _ = calls
    latencies = multi.paced_latencies(encoder, walkers=4, window=5, hop=2, seconds=2.0)
    assert latencies == pytest.approx([0.0] * int(2 * CAMERA_HZ), abs=1e-6)
    assert now[0] == pytest.approx(2.0 - 1 / CAMERA_HZ)
    assert set(seen) == {4}


def test_being_late_adds_up_until_it_is_hopeless(calls):
    encoder, _, takes = calls
    takes[0] = 2 / CAMERA_HZ
    latencies = multi.paced_latencies(encoder, walkers=1, window=2, hop=1, seconds=100.0)
    assert latencies[:3] == pytest.approx([80.0, 120.0, 160.0])
    assert latencies[-1] > multi.HOPELESS_MS
    assert len(latencies) < 60
