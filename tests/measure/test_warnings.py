"""Measurement warnings at their thresholds."""

import pytest

from cstl_edge.measure.warnings import measurement_warnings

STEADY = [10.0] * 101
QUIET = {"cores": 4, "others_cores": 0.3, "stolen_cores": 0.0, "quota_wait_s": 0.0}


def kinds(samples, *rest, **more):
    """The first words of all warnings."""
    return [warning.split(":")[0] for warning in measurement_warnings(samples, *rest, **more)]


def device(**medians):
    return {"wall": STEADY} | {stage: [value] * 101 for stage, value in medians.items()}


def test_quiet_samples_have_no_warning():
    samples = device(compute=8.0, h2d=1.0, d2h=1.0, enqueue=6.4) | {"late": [0.1] * 100}
    assert kinds(samples, {}, QUIET, paced_hz=25) == []


@pytest.mark.parametrize(
    ("medians", "expected"),
    [
        ({"compute": 1.0, "enqueue": 0.8}, []),
        ({"compute": 1.0, "enqueue": 0.81}, ["enqueue-bound"]),
        ({"device": 1.0, "enqueue": 0.81}, ["enqueue-bound"]),
        ({"compute": 1.0, "h2d": 0.99, "d2h": 0.99}, []),
        ({"compute": 1.0, "h2d": 1.0}, ["transfer-bound"]),
        ({"compute": 1.0, "h2d": 2.0, "d2h": 1.0}, ["transfer-bound", "transfer-bound"]),
        ({"h2d": 2.0, "enqueue": 1.0}, []),  # nothing to compare with
    ],
)
def test_a_bound_of_a_device_is_a_warning_at_trtexecs_thresholds(medians, expected):
    assert kinds(device(**medians)) == expected


def test_medians_are_compared_and_not_means():
    samples = device(compute=1.0) | {"enqueue": [0.5] * 90 + [50.0] * 10}
    assert "enqueue-bound" not in kinds(samples)


def alternating(percent):
    return [10.0 * (1 + percent / 100), 10.0 * (1 - percent / 100)] * 51


def test_times_that_vary_are_unstable_clocks():
    assert kinds({"wall": alternating(2.4)}) == []
    (warning,) = measurement_warnings({"wall": alternating(2.6)})
    assert warning.startswith("unstable clocks: times vary by 2.6 %")
    assert kinds({"wall": alternating(9.0), "compute": STEADY}) == []  # the device's times decide
    assert kinds({"latency": alternating(9.0)}) == ["unstable clocks"]


def test_few_and_dropped_samples_are_warnings():
    assert kinds({"wall": STEADY[:100]}) == ["few samples"]
    assert measurement_warnings({"wall": STEADY}, {"throttled": 25}) == [
        "throttled: 25 of 126 samples dropped"
    ]
    assert measurement_warnings({"wall": []}, {"throttled": 7}) == [
        "no figure: the machine was throttled during all of 7 samples"
    ]


def test_late_and_missed_ticks_are_warnings_only_where_paced():
    late = {"wall": STEADY, "late": [0.0] * 98 + [4.1] * 2}
    assert kinds(late, {"missed": 3}, paced_hz=25) == ["late", "too slow for 25 Hz"]
    assert kinds(late, {"missed": 3}) == []
    assert kinds(late | {"late": [3.9] * 100}, paced_hz=25) == []


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"cores": 4, "others_cores": 0.41}, ["busy machine"]),
        ({"cores": 4, "stolen_cores": 0.5}, ["busy machine"]),
        ({"quota_wait_s": 0.01}, ["quota"]),
        ({"power_events": 1}, ["power"]),
        ({"after": {"gpu": {"limited_by": ["power limit"], "processes": 3}}}, []),
    ],
)
def test_other_work_of_the_machine_is_a_warning(conditions, expected):
    assert kinds({"wall": STEADY}, {}, conditions) == expected


def test_a_gpu_held_down_is_a_warning_where_it_computed():
    conditions = {"after": {"gpu": {"limited_by": ["power limit"], "processes": 3}}}
    assert kinds(device(device=9.0), {}, conditions) == ["power", "busy GPU"]
    alone = {"after": {"gpu": {"limited_by": [], "processes": 1}}}
    assert kinds(device(device=9.0), {}, alone) == []
