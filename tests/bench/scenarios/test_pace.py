"""A paced run keeps its pace and says when it cannot; no test here looks at a clock."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from cstl_edge.bench.scenarios import multi
from cstl_edge.bench.scenarios.base import CAMERA_HZ
from cstl_edge.runtime import load

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def now(monkeypatch):
    """Let `pace` read and pass the time of `now`; other threads keep the real clock."""
    now = [0.0]
    clock = SimpleNamespace(
        perf_counter=lambda: now[0],
        sleep=lambda seconds: now.__setitem__(0, now[0] + seconds),
    )
    monkeypatch.setattr(multi, "time", clock)
    return now


@pytest.fixture
def calls(unprobed, now, monkeypatch):
    """An encoder, how many silhouettes each call saw, and the seconds that a call takes."""
    encoder, seen, takes = load(GOLDEN / "tiny", threads=1), [], [0.0]
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
