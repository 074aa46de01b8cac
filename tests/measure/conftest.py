"""File trees of two machines, made by hand; none is from a board."""

import pytest
from standin_machine import CPU, THERMAL, cooling, nvpmodel, policy, put

from cstl_edge.measure.linux import SysfsTree


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
