"""The small forms of load and faults: a service that runs, and the arithmetic of its figures."""

import shutil

import pytest

pytest.importorskip("starlette")
pytest.importorskip("websockets")
pytest.importorskip("paho.mqtt")

from serve import faults, load


def samples(frames, in_time, seconds):
    labels = frozenset({("camera", "c0")})
    process = frozenset({("process", "camera:c0")})
    return {
        ("cstl_edge_camera_frames_total", labels): float(frames),
        ("cstl_edge_camera_frames_dropped_total", labels): frames / 100,
        ("cstl_edge_frame_age_seconds_count", labels): float(frames),
        ("cstl_edge_frame_age_seconds_bucket", labels | {("le", "0.2")}): float(in_time),
        ("cstl_edge_process_cpu_seconds_total", process): float(seconds),
    }


def test_figures_are_those_between_two_looks():
    found = load.figures(samples(100, 50, 1), samples(300, 240, 5), 20.0)
    assert found["frames"] == found["frames_counted"] == 200
    assert found["share_within_200_ms"] == 0.95
    assert found["share_dropped"] == pytest.approx(2 / 202, abs=1e-5)
    assert found["fps_per_camera"] == 10
    assert found["cores"] == {"camera:c0": 0.2}


def test_a_slope_is_that_of_the_second_half():
    looks = [(n * 1000.0, {"front": 50.0 if n < 10 else 50 + (n - 10) * 0.02}) for n in range(20)]
    assert load.slopes(looks) == {"front": pytest.approx(2.0)}
    assert load.slopes(looks[:2]) == {"front": None}


def row(**changes):
    sound = {
        "share_within_200_ms": 0.995,
        "share_dropped": 0.0,
        "frames": 30_000,
        "memory_slope_mb_per_100k_frames": {"front": 0.5},
        "end": {"exit_code": 143, "seconds": 1.0},
    }
    return sound | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"share_within_200_ms": 0.98},
        {"share_within_200_ms": None},
        {"share_dropped": 0.02},
        {"memory_slope_mb_per_100k_frames": {"front": 1.5}},
        {"end": {"exit_code": 1, "seconds": 1.0}},
        {"end": {"exit_code": 143, "seconds": 9.0}},
    ],
)
def test_a_run_beyond_a_limit_does_not_pass(changes):
    assert load.passed(row())
    assert not load.passed(row(**changes))


def test_a_misspelt_fault_is_refused():
    with pytest.raises(SystemExit):
        faults.arguments(["brokers"])
    assert faults.arguments([]).faults == list(faults.FAULTS)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_short_load_counts_frames_and_pictures(tmp_path):
    words = ["--cameras", "1", "--size", "320x180", "--clients", "1", "--seconds", "5"]
    found = load.measure(tmp_path, load.arguments([*words, "--warm-up", "2"]))
    assert found["frames"] > 0  # how late they are is for a quiet machine
    assert found["frames_counted"] == pytest.approx(found["frames"], abs=20)
    assert found["viewers"]["pictures_per_s"] > 0
    assert set(found["memory_mb"]) >= {"front", "recogniser", "camera:c0"}
    assert found["end"]["exit_code"] == 143


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_worker_and_a_camera_that_hangs_up_come_back(tmp_path):
    words = ["camera", "workers", "--kills", "1", "--cameras", "1"]
    rows = list(faults.run(tmp_path / "site", faults.arguments(words)))
    assert [(x["fault"], x["passed"]) for x in rows] == [("camera", True), ("workers", True)], rows
    assert rows[-1]["result"]["events"] > 0
    assert shutil.which("mosquitto") is None or "missing_at_broker" in rows[-1]["result"]
