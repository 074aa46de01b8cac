"""Machine monitor: readings, event counts, throttling."""

from pathlib import Path

import pytest
from standin_machine import CPU, cooling, policy, put

from cstl_edge.measure.conditions import MachineMonitor, host_monitor
from cstl_edge.measure.environment import devices, process_cores
from cstl_edge.measure.linux import SysfsTree


def test_a_laptop_is_read(laptop):
    assert MachineMonitor(laptop).read() == {
        "cpu_mhz": {"min": 800.0, "median": 3100.0, "max": 3900.0},
        "temperatures_c": {"acpitz": 45.0, "x86_pkg_temp": 71.5, "acpitz 2": 27.8},
        "load_1min": 1.25,
    }
    assert MachineMonitor(laptop).settings() == {"governor": "performance, powersave"}


def test_a_jetson_is_read(orin):
    record = MachineMonitor(orin).read()
    assert record["devfreq_mhz"] == {"15340000.vic": 729.6, "17000000.gpu": 1300.5}
    assert "slowed_by" not in record  # a fan slows nothing down
    assert MachineMonitor(orin).settings() == {
        "governor": "schedutil",
        "cpu_held_mhz": 2201.6,
        "gpu_held_mhz": 1300.5,
        "power_mode": {"name": "MODE_30W", "id": 2},
        "jetson_clocks": True,
    }


def test_a_bare_tree_has_an_empty_record(tmp_path):
    monitor = MachineMonitor(SysfsTree(tmp_path))
    monitor.begin()
    record = monitor.end()
    assert record["before"] == record["after"] == record["settings"] == {}
    assert set(record) <= {"before", "after", "settings", "seconds", "cores", "own_cores"}
    assert monitor.throttled(device=True) is False
    assert devices(SysfsTree(tmp_path)) == {}


def test_heat_counted_since_the_last_call_is_throttling(laptop):
    monitor = MachineMonitor(laptop)
    assert not monitor.throttled(device=False)
    put(laptop.root, f"{CPU}/cpu1/thermal_throttle/core_throttle_count", 4)
    assert monitor.throttled(device=False)
    assert not monitor.throttled(device=False)


@pytest.mark.parametrize(
    ("number", "kind", "state", "cpu", "gpu"),
    [
        (0, "cpufreq-cpu0", 5, True, True),
        (0, "thermal-cpufreq-0", 1, True, True),
        (0, "Processor", 2, True, True),
        (0, "intel_powerclamp", 20, True, True),
        (0, "cpu-throttle-alert", 1, True, True),
        (1, "gpu-throttle-alert", 1, False, True),
        (3, "devfreq-17000000.gpu", 4, False, True),
        (3, "devfreq-gpu-gpc-0", 18, False, True),
        (2, "pwm-fan", 4, False, False),
        (2, "hot-surface-alert", 1, False, False),
        (2, "TCC Offset", 9, False, False),
        (2, "cpufreq-cpu4", "-", False, False),
    ],
)
def test_cooling_devices_at_work_are_throttling(orin, number, kind, state, cpu, gpu):
    monitor = MachineMonitor(orin)
    assert not monitor.throttled(device=True)
    cooling(orin.root, number, kind, state)
    assert monitor.throttled(device=False) is cpu
    assert monitor.throttled(device=True) is gpu
    assert monitor.read().get("slowed_by", []) == ([kind] if gpu else [])


def test_a_clock_far_below_the_one_it_is_held_at_is_throttling(orin):
    put(orin.root, f"{CPU}/cpufreq/policy4/scaling_cur_freq", 1_700_000)
    assert not MachineMonitor(orin).throttled(device=False)  # 77 %
    put(orin.root, f"{CPU}/cpufreq/policy4/scaling_cur_freq", 1_600_000)
    assert MachineMonitor(orin).throttled(device=False)


def test_a_low_clock_that_a_governor_chose_is_no_throttling(laptop):
    policy(laptop.root, 0, 400_000, 4_700_000, 400_000, "powersave")
    assert not MachineMonitor(laptop).throttled(device=True)


def test_events_in_between_are_counted(orin):
    monitor = MachineMonitor(orin)
    monitor.begin()
    put(orin.root, "sys/class/hwmon/hwmon3/oc3_event_cnt", 40)
    record = monitor.end()
    assert record["power_events"] == 37
    assert record["before"]["devfreq_mhz"] == record["after"]["devfreq_mhz"]
    with pytest.raises(ValueError, match="expected `begin`"):
        MachineMonitor(orin).end()


def test_clocks_that_are_free_are_not_jetson_clocks(orin):
    put(orin.root, "sys/class/devfreq/17000000.gpu/min_freq", 306_000_000)
    assert MachineMonitor(orin).settings()["jetson_clocks"] is False
    put(orin.root, "sys/class/devfreq/17000000.gpu/min_freq", 1_300_500_000)
    put(orin.root, f"{CPU}/cpufreq/policy0/scaling_min_freq", 729_600)
    assert MachineMonitor(orin).settings()["jetson_clocks"] is False


def test_the_monitor_reads_this_machine():
    monitor = host_monitor()
    monitor.begin()
    record = monitor.end()
    assert record["cores"] == process_cores() > 0
    assert isinstance(monitor.throttled(device=True), bool)
    if Path("/proc/loadavg").exists():
        assert record["before"]["load_1min"] >= 0
