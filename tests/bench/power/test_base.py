"""Power recordings: their energy, and the thread that takes them."""

import threading
import time

import pytest

from cstl_edge.bench.power.base import MeterRecorder, PowerRecording
from cstl_edge.errors import SourceUnavailable


def test_power_is_integrated_by_trapezoids():
    actual = PowerRecording("watts", [0.0, 1.0, 3.0], {"a": [2.0, 4.0, 0.0], "b": [1.0, 1.0, 1.0]})
    assert actual.joules(["a"]) == pytest.approx(3 + 4)
    assert actual.joules(["a", "b"]) == pytest.approx(10)
    assert actual.watts(["a"]) == pytest.approx(7 / 3)
    assert (actual.seconds, actual.hz) == pytest.approx((3.0, 2 / 3))


def test_counters_are_subtracted():
    actual = PowerRecording("joules", [0.0, 1.0, 2.0], {"gpu": [100.0, 108.0, 110.0]})
    assert actual.joules(["gpu"]) == pytest.approx(10)
    assert actual.watts(["gpu"]) == pytest.approx(5)


@pytest.mark.parametrize("kind", ["watts", "joules"])
def test_a_part_is_cut_out_with_its_ends(kind):
    whole = PowerRecording(kind, [0.0, 1.0, 2.0, 3.0], {"a": [0.0, 2.0, 2.0, 4.0]})
    part = whole.between(0.5, 2.5)
    assert part.times_s == [0.5, 1.0, 2.0, 2.5]
    assert part.rails["a"] == pytest.approx([1.0, 2.0, 2.0, 3.0])
    assert part.joules(["a"]) == pytest.approx(0.75 + 2 + 1.25 if kind == "watts" else 2.0)
    assert whole.between(1.2, 1.4).times_s == [1.2, 1.4]  # between two readings


def test_rails_that_are_negative_on_the_whole_are_named():
    actual = PowerRecording("watts", [0.0, 1.0], {"a": [-1.0, -1.0], "b": [-1.0, 2.0]})
    assert actual.negative() == ["a"]


class Counting:
    """A meter of 2 W that counts its readings, and fails at one of them."""

    name, kind, scopes = "stand-in", "watts", {"module": ("a",)}

    def __init__(self, fails_at=None):
        self.count, self.fails_at = 0, fails_at
        self.enough = threading.Event()

    def read(self):
        self.count += 1
        if self.count >= 5:
            self.enough.set()
        if self.fails_at is not None and self.count >= self.fails_at:
            raise SourceUnavailable("stand-in stopped answering")
        return {"a": 2.0}

    def close(self):
        pass


def test_readings_are_taken_while_the_block_runs():
    meter, before = Counting(), time.perf_counter()
    with MeterRecorder(meter, hz=500) as recorder:
        assert meter.enough.wait(10)
    actual = recorder.recording()
    assert len(actual.times_s) == meter.count >= 6  # one at each end
    assert actual.times_s == sorted(actual.times_s)
    assert before <= actual.times_s[0]
    assert actual.times_s[-1] <= time.perf_counter()
    assert actual.joules(["a"]) == pytest.approx(2 * actual.seconds)
    after = meter.count
    time.sleep(0.02)
    assert meter.count == after


@pytest.mark.parametrize("fails_at", [1, 3])
def test_a_meter_that_fails_ends_the_recording_and_not_the_block(fails_at):
    meter, done = Counting(fails_at), False
    with MeterRecorder(meter, hz=500) as recorder:
        deadline = time.perf_counter() + 10
        while meter.count < fails_at and time.perf_counter() < deadline:
            time.sleep(0.001)
        done = True
    assert done
    assert meter.count == fails_at  # it is not asked again
    with pytest.raises(SourceUnavailable, match="stopped answering"):
        recorder.recording()
