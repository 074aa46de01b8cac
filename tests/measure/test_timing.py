"""Timer of calls on a clock of our own: warm-up, counts, throttling, pace, inspection."""

import math
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import pytest

from cstl_edge.measure import timing
from cstl_edge.measure.timing import COOL_S, TURN_S, Timing, measure, measure_interleaved


class Clock:
    """Time that passes only on request; takes the place of the module `time`."""

    def __init__(self):
        self.now_ns = 10**12

    @property
    def now_s(self):
        return self.now_ns / 1e9

    def pass_ms(self, ms):
        self.now_ns += round(ms * 1e6)

    def perf_counter_ns(self):
        return self.now_ns

    def sleep(self, seconds):
        self.now_ns += round(seconds * 1e9)


class Machine:
    """An observer whose answers are given."""

    def __init__(self, throttled=lambda: False):
        self.calls = []
        self.seen = []
        self._throttled = throttled

    def begin(self):
        self.seen.append("begin")

    def end(self):
        self.seen.append("end")
        return {"cores": 2, "others_cores": 0.0}

    def throttled(self, device):
        self.calls.append(device)
        return self._throttled()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def call(clock, *durations_ms, **stages):
    """A run that takes these times in turn, the last one for ever, and counts its calls."""
    left = list(durations_ms)
    log = SimpleNamespace(calls=0, starts=[])

    def run():
        log.calls += 1
        log.starts.append(clock.now_s)
        clock.pass_ms(left.pop(0) if len(left) > 1 else left[0])
        return stages or None

    run.log = log
    return run


def take(run, **how):
    how = {"warm_up_s": 0.0, "seconds": 0.0, "samples": 1, "monitor": Machine()} | how
    return measure(run, **how)


def test_samples_are_raw_in_order_and_none_is_clipped(clock):
    timing = take(call(clock, 50.0, 3.0, 1.0, 90.0, 2.0), samples=4)  # 50 ms is the warm-up
    assert timing.samples == {"wall": pytest.approx([3.0, 1.0, 90.0, 2.0])}
    assert timing.dropped == {}


@pytest.mark.parametrize(
    ("ms", "seconds", "samples", "expected"),
    [(1.0, 0.5, 10, 500), (1.0, 0.0, 10, 10), (200.0, 0.5, 10, 10), (200.0, 1.9, 3, 10)],
)
def test_time_and_count_are_both_reached_and_not_more(clock, ms, seconds, samples, expected):
    timing = take(call(clock, ms), seconds=seconds, samples=samples)
    assert len(timing.samples["wall"]) == expected
    assert sum(timing.samples["wall"]) >= seconds * 1e3 - 1e-6


def test_warm_up_is_apart(clock):
    run = call(clock, 10.0)
    timing = take(run, warm_up_s=0.25, samples=2)
    assert run.log.calls == 25 + 2
    assert len(timing.samples["wall"]) == 2


def test_stages_that_the_device_timed_stand_beside_the_wall(clock):
    machine, stages = Machine(), {"h2d": 0.5, "compute": 3.0, "d2h": 0.25, "enqueue": 1.0}
    timing = take(call(clock, 5.0, **stages), samples=3, monitor=machine)
    taken = {stage: [ms] * 3 for stage, ms in stages.items()}
    assert timing.samples == {"wall": pytest.approx([5.0] * 3), **taken}
    assert machine.calls[-1] is True  # the GPU's throttling counts
    assert take(call(clock, 5.0), monitor=(cpu := Machine()))
    assert True not in cpu.calls


def test_the_monitor_reads_the_machine_before_and_after(clock):
    machine = Machine()
    run = call(clock, 1.0)

    def seen():
        machine.seen.append("call")
        return run()

    timing = take(seen, monitor=machine)
    assert machine.seen == ["call", "begin", "call", "end"]  # the first is the warm-up
    assert timing.conditions == {"cores": 2, "others_cores": 0.0}


def test_throttled_samples_are_dropped_counted_and_taken_anew(clock):
    answers = iter([False, True, True])  # called once before, then after each stretch
    started = clock.now_s
    machine = Machine(lambda: next(answers, False))
    timing = take(call(clock, 10.0), seconds=0.1, samples=10, monitor=machine)
    assert len(timing.samples["wall"]) == 10
    assert timing.dropped == {"throttled": 20}
    assert any("20 of 30 samples dropped" in x for x in timing.warnings)
    assert clock.now_s - started == pytest.approx(0.01 + 3 * 0.1 + 2 * COOL_S)


def test_a_machine_that_never_cools_gives_no_figure_and_an_end(clock):
    started = clock.now_s
    timing = take(call(clock, 10.0), seconds=1.0, samples=10, monitor=Machine(lambda: True))
    assert timing.samples["wall"] == []
    assert timing.dropped["throttled"] > 0
    assert timing.warnings == [
        f"no figure: the machine was throttled during all of {timing.dropped['throttled']} samples"
    ]
    assert clock.now_s - started < 1 + 3 * 1.0 + TURN_S + COOL_S + 0.1


def test_samples_from_before_the_heat_stay(clock):
    calls = iter(range(10**6))
    timing = take(
        call(clock, 10.0), seconds=1.0, samples=10, monitor=Machine(lambda: next(calls) > 3)
    )
    counted = len(timing.samples["wall"])
    assert 0 < counted < 100
    lost = f"of {counted + timing.dropped['throttled']} samples dropped"
    assert any(lost in x for x in timing.warnings)


def test_paced_calls_begin_at_ticks(clock):
    run = call(clock, 15.0)
    timing = take(run, seconds=1.0, samples=5, paced_hz=25)
    starts = run.log.starts[1:]
    assert len(starts) == 25
    assert [b - a for a, b in pairwise(starts)] == pytest.approx([0.04] * 24)
    assert starts[0] - run.log.starts[0] == pytest.approx(0.015 + 0.04)  # a rest before the first
    assert timing.samples["wall"] == pytest.approx([15.0] * 25)
    assert timing.samples["late"] == pytest.approx([0.0] * 25, abs=1e-6)
    assert timing.dropped == {}


def test_calls_longer_than_a_tick_are_late_and_ticks_are_missed(clock):
    timing = take(call(clock, 100.0), samples=4, paced_hz=25)
    # ticks at 40, then 140 -> 120 (20 late, 80 missed), 240 -> 240 (160, 200), 340 -> 320 (280)
    assert timing.samples["late"] == pytest.approx([0.0, 20.0, 0.0, 20.0], abs=1e-6)
    assert timing.dropped == {"missed": 4}
    assert any("too slow for 25 Hz: 4 ticks" in x for x in timing.warnings)
    assert any(x.startswith("late: p99") for x in timing.warnings)


def test_a_lateness_does_not_shift_the_ticks_after_it(clock):
    run = call(clock, 1.0, 55.0, 1.0)
    timing = take(run, samples=4, paced_hz=25)
    assert timing.samples["late"] == pytest.approx([0.0, 15.0, 0.0, 0.0], abs=1e-6)
    assert timing.dropped == {}


def test_inspection_is_not_timed_and_takes_no_more_than_the_calls(clock):
    look = call(clock, 5.0)
    timing = take(call(clock, 1.0), seconds=0.1, samples=10, inspect=look)
    assert timing.samples["wall"] == pytest.approx([1.0] * 100)
    assert look.log.calls == pytest.approx(20, abs=1)


def test_cheap_inspection_sees_every_sample(clock):
    look = call(clock, 0.0)
    take(call(clock, 1.0), samples=30, inspect=look)
    assert look.log.calls == 30


def test_errors_of_a_call_or_an_inspection_are_raised(clock):
    def fail():
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        take(fail)
    with pytest.raises(KeyError, match="broken"):
        take(call(clock, 1.0), inspect=fail)


@pytest.mark.parametrize(
    "wrong", [{"samples": 0}, {"seconds": -1.0}, {"warm_up_s": -1.0}, {"paced_hz": 0.0}]
)
def test_options_out_of_range_are_refused(clock, wrong):
    with pytest.raises(ValueError, match="expected"):
        take(call(clock, 1.0), **wrong)


def turns(clock, runs, **how):
    how = {"warm_up_s": 0.0, "seconds": 1.0, "samples": 10, "monitor": Machine()} | how
    return measure_interleaved(runs, **how)


def test_interleaved_calls_share_the_whole_time(clock):
    fast, slow = call(clock, 10.0), call(clock, 30.0)
    timings = turns(clock, {"fast": fast, "slow": slow})
    assert len(timings["fast"].samples["wall"]) == 100
    assert len(timings["slow"].samples["wall"]) == 34
    for first, second in ((fast, slow), (slow, fast)):
        assert first.log.starts[-1] > second.log.starts[len(second.log.starts) * 8 // 10]


def test_a_turn_begins_untimed_unless_the_call_is_long(clock):
    short, long = call(clock, 50.0), call(clock, 400.0)
    timings = turns(clock, {"short": short, "long": long}, seconds=0.0, samples=5)
    assert len(timings["short"].samples["wall"]) == len(timings["long"].samples["wall"]) == 5
    assert short.log.calls == 5 + 1 + 1  # warm-up and one turn
    assert long.log.calls == 5 + 1


def test_rests_of_paced_turns_are_whole(clock):
    runs = {"a": call(clock, 1.0), "b": call(clock, 1.0)}
    timings = turns(clock, runs, paced_hz=25)
    for timed in timings.values():
        assert len(timed.samples["wall"]) == pytest.approx(25, abs=3)
        assert max(timed.samples["late"]) == pytest.approx(0.0, abs=1e-6)


def test_inspections_belong_to_their_runs(clock):
    seen, both = [], []
    own = {name: partial(seen.append, name) for name in "ab"}
    for inspect in (own, lambda: both.append(1)):
        runs = {name: call(clock, 1.0) for name in "ab"}
        turns(clock, runs, seconds=0.0, samples=2, inspect=inspect)
    assert seen == ["a", "a", "b", "b"]
    assert len(both) == 4


def test_heat_of_one_call_drops_no_samples_of_the_next(clock):
    hot = []

    def heat():
        clock.pass_ms(10.0)
        hot.append(1)

    def throttled():
        was_hot = bool(hot)
        hot.clear()
        return was_hot

    runs = {"hot": heat, "cold": call(clock, 10.0)}
    timings = turns(clock, runs, seconds=0.1, samples=1, monitor=Machine(throttled))
    assert timings["hot"].samples["wall"] == []
    assert timings["cold"].dropped == {}
    assert len(timings["cold"].samples["wall"]) == 10


def test_no_calls_have_no_timings(clock):
    assert turns(clock, {}) == {}


def test_a_call_is_timed_on_this_machine_and_its_clock():
    timing = measure(lambda: sum(range(20_000)) and None, warm_up_s=0.01, seconds=0.25, samples=5)
    assert isinstance(timing, Timing)
    assert sum(timing.samples["wall"]) >= 200  # what is left of 250 is the loop's own
    assert timing.conditions["seconds"] >= 0.25
    assert timing.conditions["own_cores"] >= 0
    assert all(math.isfinite(x) and x > 0 for x in timing.samples["wall"])
