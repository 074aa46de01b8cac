"""Clocks, temperatures and CPU load from files of /proc and /sys."""

import os

import pytest
from standin_machine import grow, put

from cstl_edge.measure import linux
from cstl_edge.measure.linux import SHORTEST_S, CpuLoad, cores_between, read_load

STAT = "cpu  {user} 10 200 5000 40 5 15 {stolen} 999 999\ncpu0 1 2 3\n"


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


def at(seconds, **counters):
    return CpuLoad(seconds, **({"own_s": 0.0} | counters))


def test_busy_cores_are_divided_by_their_owner():
    before = at(10.0, own_s=5.0, busy_s=100.0, stolen_s=1.0, quota_s=0.0)
    after = at(14.0, own_s=8.0, busy_s=105.0, stolen_s=1.4, quota_s=0.5)
    assert cores_between(before, after) == {
        "own_cores": 0.75,
        "others_cores": 0.5,
        "stolen_cores": 0.1,
        "quota_wait_s": 0.5,
    }


def test_unknown_counters_of_the_load_are_absent():
    assert cores_between(at(0.0), at(1.0, own_s=0.5)) == {"own_cores": 0.5}
    assert cores_between(at(0.0, busy_s=1.0), at(SHORTEST_S / 2, busy_s=2.0)) == {}
    rounded = cores_between(at(0.0, busy_s=1.0), at(1.0, own_s=1.0, busy_s=1.99))
    assert rounded["others_cores"] == 0.0  # the kernel counts in hundredths


def test_the_load_is_read_from_proc_and_cgroup(tmp_path):
    tick = os.sysconf("SC_CLK_TCK")
    tree = grow(
        tmp_path,
        proc__stat=STAT.format(user=1000, stolen=77),
        **{"sys__fs__cgroup__cpu.stat": "usage_usec 5\nnr_throttled 3\nthrottled_usec 2500000"},
    )
    load = read_load(tree)
    assert load.busy_s == pytest.approx((1000 + 10 + 200 + 5 + 15) / tick)
    assert load.stolen_s == pytest.approx(77 / tick)
    assert load.quota_s == 2.5
    assert load.own_s > 0
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
