"""The state of machines, read from trees of files of our own making; none is from a board."""

import os
from pathlib import Path

import pytest

from cstl_edge.measure import jetson, linux
from cstl_edge.measure.conditions import MachineMonitor, host_monitor
from cstl_edge.measure.environment import (
    devices,
    driver_version,
    gpu_names,
    in_container,
    process_cores,
)
from cstl_edge.measure.linux import SHORTEST_S, CpuLoad, SysfsTree, cores_between, read_load

CPU = "sys/devices/system/cpu"
THERMAL = "sys/class/thermal"
STAT = "cpu  {user} 10 200 5000 40 5 15 {stolen} 999 999\ncpu0 1 2 3\n"


def grow(root, **files):
    """Write files below `root`; in names, `__` is a slash."""
    for name, text in files.items():
        put(root, name.replace("__", "/"), text)
    return SysfsTree(root)


def put(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(f"{text}\n")


def policy(root, number, low, high, now, governor="schedutil"):
    """One group of cores; clocks in kHz, as the kernel gives them."""
    folder = f"{CPU}/cpufreq/policy{number}"
    for name, value in (("min", low), ("max", high), ("cur", now)):
        put(root, f"{folder}/scaling_{name}_freq", value)
    put(root, f"{folder}/scaling_governor", governor)


def cooling(root, number, kind, state):
    put(root, f"{THERMAL}/cooling_device{number}/type", kind)
    put(root, f"{THERMAL}/cooling_device{number}/cur_state", state)


@pytest.fixture
def laptop(tmp_path):
    """An Intel laptop: free clocks, counters of heat."""
    policy(tmp_path, 0, 400_000, 4_700_000, 3_900_000, "powersave")
    policy(tmp_path, 10, 400_000, 4_700_000, 3_100_000, "powersave")
    policy(tmp_path, 2, 400_000, 4_700_000, 800_000, "performance")
    for cpu in (0, 1):
        put(tmp_path, f"{CPU}/cpu{cpu}/thermal_throttle/core_throttle_count", 3)
        put(tmp_path, f"{CPU}/cpu{cpu}/thermal_throttle/package_throttle_count", 10)
    for number, (kind, temp) in enumerate(
        [("acpitz", 45000), ("x86_pkg_temp", 71500), ("acpitz", 27800), ("off", -274000)]
    ):
        put(tmp_path, f"{THERMAL}/thermal_zone{number}/type", kind)
        put(tmp_path, f"{THERMAL}/thermal_zone{number}/temp", temp)
    cooling(tmp_path, 0, "Processor", 0)
    cooling(tmp_path, 1, "intel_powerclamp", -1)
    cooling(tmp_path, 2, "TCC Offset", 5)
    put(tmp_path, "proc/loadavg", "1.25 0.80 0.50 2/300 4000")
    return SysfsTree(tmp_path)


@pytest.fixture
def orin(tmp_path):
    """A Jetson AGX Orin with L4T 36, power mode 2, jetson_clocks on."""
    policy(tmp_path, 0, 2_201_600, 2_201_600, 2_201_600)
    policy(tmp_path, 4, 2_201_600, 2_201_600, 2_201_600)
    for name, value in (("min", 1_300_500_000), ("max", 1_300_500_000), ("cur", 1_300_500_000)):
        put(tmp_path, f"sys/class/devfreq/17000000.gpu/{name}_freq", value)
    put(tmp_path, "sys/class/devfreq/15340000.vic/cur_freq", 729_600_000)
    put(
        tmp_path,
        "etc/nv_tegra_release",
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: x",
    )
    put(tmp_path, "proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0")
    for number in (1, 2, 3):
        put(tmp_path, f"sys/class/hwmon/hwmon3/oc{number}_event_cnt", number)
    cooling(tmp_path, 0, "cpufreq-cpu0", 0)
    cooling(tmp_path, 1, "gpu-throttle-alert", 0)
    cooling(tmp_path, 2, "pwm-fan", 3)
    cooling(tmp_path, 3, "devfreq-17000000.gpu", 0)
    nvpmodel(tmp_path, "NV Power Mode: MODE_30W\n2")
    return SysfsTree(tmp_path)


def nvpmodel(root, says, code=0):
    path = root / "usr/sbin/nvpmodel"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n[ "$*" = -q ] || exit 9\ncat <<END\n{says}\nEND\nexit {code}\n')
    path.chmod(0o755)


def test_a_laptop_is_read(laptop):
    assert MachineMonitor(laptop).read() == {
        "cpu_mhz": {"min": 800.0, "median": 3100.0, "max": 3900.0},
        "temperatures_c": {"acpitz": 45.0, "x86_pkg_temp": 71.5, "acpitz 2": 27.8},
        "load_1min": 1.25,
    }
    assert MachineMonitor(laptop).settings() == {"governor": "performance, powersave"}


def test_a_jetson_is_read(orin):
    found = MachineMonitor(orin).read()
    assert found["devfreq_mhz"] == {"15340000.vic": 729.6, "17000000.gpu": 1300.5}
    assert "slowed_by" not in found  # a fan slows nothing down
    assert MachineMonitor(orin).settings() == {
        "governor": "schedutil",
        "cpu_held_mhz": 2201.6,
        "gpu_held_mhz": 1300.5,
        "power_mode": {"name": "MODE_30W", "id": 2},
        "jetson_clocks": True,
    }


def test_a_bare_tree_tells_nothing(tmp_path):
    watch = MachineMonitor(SysfsTree(tmp_path))
    watch.begin()
    found = watch.end()
    assert found["before"] == found["after"] == found["settings"] == {}
    assert set(found) <= {"before", "after", "settings", "seconds", "cores", "own_cores"}
    assert watch.throttled(device=True) is False
    assert devices(SysfsTree(tmp_path)) == {}


def test_clocks_come_from_cpuinfo_without_cpufreq(tmp_path):
    tree = grow(tmp_path, proc__cpuinfo="processor : 0\ncpu MHz\t\t: 2596.146\ncpu MHz : 1000\n")
    assert linux.clocks_mhz(tree) == {"min": 1000.0, "median": 1798.1, "max": 2596.146}
    assert linux.held_mhz(tree) is None


def test_processors_that_hwmon_alone_knows_have_a_temperature(tmp_path):
    tree = grow(
        tmp_path,
        sys__class__hwmon__hwmon0__name="nvme",
        sys__class__hwmon__hwmon0__temp1_input="33000",
        sys__class__hwmon__hwmon1__name="k10temp",
        sys__class__hwmon__hwmon1__temp1_input="61250",
    )
    assert linux.temperatures_c(tree) == {"k10temp": 61.25}


def test_heat_counted_since_the_last_call_is_throttling(laptop):
    watch = MachineMonitor(laptop)
    assert not watch.throttled(device=False)
    put(laptop.root, f"{CPU}/cpu1/thermal_throttle/core_throttle_count", 4)
    assert watch.throttled(device=False)
    assert not watch.throttled(device=False)


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
    watch = MachineMonitor(orin)
    assert not watch.throttled(device=True)
    cooling(orin.root, number, kind, state)
    assert watch.throttled(device=False) is cpu
    assert watch.throttled(device=True) is gpu
    assert watch.read().get("slowed_by", []) == ([kind] if gpu else [])


def test_a_clock_far_below_the_one_it_is_held_at_is_throttling(orin):
    put(orin.root, f"{CPU}/cpufreq/policy4/scaling_cur_freq", 1_700_000)
    assert not MachineMonitor(orin).throttled(device=False)  # 77 %
    put(orin.root, f"{CPU}/cpufreq/policy4/scaling_cur_freq", 1_600_000)
    assert MachineMonitor(orin).throttled(device=False)


def test_a_low_clock_that_a_governor_chose_is_none(laptop):
    policy(laptop.root, 0, 400_000, 4_700_000, 400_000, "powersave")
    assert not MachineMonitor(laptop).throttled(device=True)


def test_events_in_between_are_counted(orin):
    watch = MachineMonitor(orin)
    watch.begin()
    put(orin.root, "sys/class/hwmon/hwmon3/oc3_event_cnt", 40)
    found = watch.end()
    assert found["power_events"] == 37
    assert found["before"]["devfreq_mhz"] == found["after"]["devfreq_mhz"]
    with pytest.raises(ValueError, match="expected `begin`"):
        MachineMonitor(orin).end()


def test_clocks_that_are_free_are_not_jetson_clocks(orin):
    put(orin.root, "sys/class/devfreq/17000000.gpu/min_freq", 306_000_000)
    assert MachineMonitor(orin).settings()["jetson_clocks"] is False
    put(orin.root, "sys/class/devfreq/17000000.gpu/min_freq", 1_300_500_000)
    put(orin.root, f"{CPU}/cpufreq/policy0/scaling_min_freq", 729_600)
    assert MachineMonitor(orin).settings()["jetson_clocks"] is False


@pytest.mark.parametrize("name", ["17000000.ga10b", "17000000.gv11b", "gpu-gpc-0", "57000000.gpu"])
def test_gpus_are_known_by_the_names_of_every_release(tmp_path, name):
    for key in ("min_freq", "max_freq"):
        put(tmp_path, f"sys/class/devfreq/{name}/{key}", 900_000_000)
        put(tmp_path, f"sys/class/devfreq/15340000.vic/{key}", 1 if key == "min_freq" else 2)
    assert jetson.gpu_held_mhz(SysfsTree(tmp_path)) == 900.0


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ("NV Power Mode: MAXN\n0", {"name": "MAXN", "id": 0}),
        ("NV Fan Mode:quiet\nNV Power Mode: 15W\n1", {"name": "15W", "id": 1}),
        ("NVPM WARN: x\nNV Power Mode: MAXN_SUPER\n2", {"name": "MAXN_SUPER", "id": 2}),
        ("NVPM ERROR: optMask is 1, no request for power mode", None),
        ("", None),
    ],
)
def test_power_modes_are_read(tmp_path, says, expected):
    nvpmodel(tmp_path, says)
    assert jetson.power_mode(SysfsTree(tmp_path)) == expected


def test_a_power_mode_that_cannot_be_read_is_absent(tmp_path):
    assert jetson.power_mode(SysfsTree(tmp_path)) is None
    put(tmp_path, "usr/sbin/nvpmodel", "not a program")
    assert jetson.power_mode(SysfsTree(tmp_path)) is None


def test_what_a_machine_is(orin):
    found = devices(orin)
    assert found == {
        "board": "NVIDIA Jetson AGX Orin Developer Kit",
        "l4t": "36.4.3",
        "power_mode": {"name": "MODE_30W", "id": 2},
    }


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ("UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023", "535.129.03"),
        ("UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (x)", "580.65.06"),
        ("UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (x)", "540.4.0"),
        ("something else", None),
    ],
)
def test_drivers_are_known_by_the_kernels_word(tmp_path, says, expected):
    tree = grow(tmp_path, proc__driver__nvidia__version=f"NVRM version: NVIDIA {says}\nGCC 12")
    assert driver_version(tree) == expected


def test_gpus_are_known_by_the_kernels_word(tmp_path):
    for bus, name in (("0000:01:00.0", "NVIDIA L4"), ("0000:41:00.0", "NVIDIA RTX A2000")):
        put(tmp_path, f"proc/driver/nvidia/gpus/{bus}/information", f"Model: \t\t {name}\nIRQ: 5")
    assert gpu_names(SysfsTree(tmp_path)) == ["NVIDIA L4", "NVIDIA RTX A2000"]


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        (".dockerenv", "", True),
        ("run/.containerenv", "", True),
        ("proc/1/cgroup", "0::/kubepods/pod1", True),
        ("proc/1/cgroup", "0::/init.scope", False),
    ],
)
def test_containers_leave_signs(tmp_path, path, text, found):
    put(tmp_path, path, text)
    assert in_container(SysfsTree(tmp_path)) is found


def at(seconds, **counters):
    return CpuLoad(seconds, **({"own_s": 0.0} | counters))


def test_cores_are_shared_out():
    before = at(10.0, own_s=5.0, busy_s=100.0, stolen_s=1.0, quota_s=0.0)
    after = at(14.0, own_s=8.0, busy_s=105.0, stolen_s=1.4, quota_s=0.5)
    assert cores_between(before, after) == {
        "own_cores": 0.75,
        "others_cores": 0.5,
        "stolen_cores": 0.1,
        "quota_wait_s": 0.5,
    }


def test_what_is_not_known_of_the_load_is_absent():
    assert cores_between(at(0.0), at(1.0, own_s=0.5)) == {"own_cores": 0.5}
    assert cores_between(at(0.0, busy_s=1.0), at(SHORTEST_S / 2, busy_s=2.0)) == {}
    rounded = cores_between(at(0.0, busy_s=1.0), at(1.0, own_s=1.0, busy_s=1.99))
    assert rounded["others_cores"] == 0.0  # the kernel counts in hundredths


def test_load_is_read(tmp_path):
    tick = os.sysconf("SC_CLK_TCK")
    tree = grow(
        tmp_path,
        proc__stat=STAT.format(user=1000, stolen=77),
        **{"sys__fs__cgroup__cpu.stat": "usage_usec 5\nnr_throttled 3\nthrottled_usec 2500000"},
    )
    found = read_load(tree)
    assert found.busy_s == pytest.approx((1000 + 10 + 200 + 5 + 15) / tick)
    assert found.stolen_s == pytest.approx(77 / tick)
    assert found.quota_s == 2.5
    assert found.own_s > 0
    old = grow(tmp_path / "old", **{"sys__fs__cgroup__cpu__cpu.stat": "throttled_time 3000000000"})
    assert read_load(old).quota_s == 3.0


@pytest.mark.parametrize("stat", ["", "cpu 1 2 3", "cpu a b c d e f g h", "intr 1 2 3 4 5 6 7 8"])
def test_counters_that_no_kernel_writes_are_absent(tmp_path, stat):
    assert read_load(grow(tmp_path, proc__stat=stat)).busy_s is None


def test_files_that_cannot_be_read_are_absent(tmp_path):
    tree = grow(tmp_path, a="12a", b=str(10**30), c="\0 7 \0", d="")
    assert [tree.number(x) for x in "abcd"] == [None, None, 7, None]
    assert tree.text(".") is None
    assert tree.text("none") is None
    (tmp_path / "e").write_bytes(b"\xff9")
    assert tree.number("e") is None
    for name in ("cpu10", "cpu2", "cpu0"):
        put(tmp_path, f"x/{name}", 1)
    assert [path.name for path, _ in tree.numbers("x/cpu*")] == ["cpu0", "cpu2", "cpu10"]


def test_this_machine_answers():
    watch = host_monitor()
    watch.begin()
    found = watch.end()
    assert found["cores"] == process_cores() > 0
    assert isinstance(watch.throttled(device=True), bool)
    if Path("/proc/loadavg").exists():
        assert found["before"]["load_1min"] >= 0
