"""A Jetson's GPU clock and power mode from its files and `nvpmodel -q`."""

import pytest
from standin_machine import nvpmodel, put

from cstl_edge.measure import jetson
from cstl_edge.measure.linux import SysfsTree


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
