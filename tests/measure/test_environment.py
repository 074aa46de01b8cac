"""Record of a machine: board, driver, GPUs, container."""

import pytest
from standin_machine import grow, put

from cstl_edge.measure.environment import (
    devices,
    driver_version,
    gpu_names,
    in_container,
    machine_digits,
)
from cstl_edge.measure.linux import SysfsTree


def test_the_devices_of_a_jetson_are_recorded(orin):
    record = devices(orin)
    assert record == {
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
def test_the_driver_version_comes_from_the_kernel(tmp_path, says, expected):
    tree = grow(tmp_path, proc__driver__nvidia__version=f"NVRM version: NVIDIA {says}\nGCC 12")
    assert driver_version(tree) == expected


def test_gpu_names_come_from_the_kernel(tmp_path):
    for bus, name in (("0000:01:00.0", "NVIDIA L4"), ("0000:41:00.0", "NVIDIA RTX A2000")):
        put(tmp_path, f"proc/driver/nvidia/gpus/{bus}/information", f"Model: \t\t {name}\nIRQ: 5")
    assert gpu_names(SysfsTree(tmp_path)) == ["NVIDIA L4", "NVIDIA RTX A2000"]


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        (".dockerenv", "", True),
        ("run/.containerenv", "", True),
        ("proc/1/cgroup", "0::/kubepods/pod1", True),
        ("proc/1/cgroup", "0::/init.scope", False),
    ],
)
def test_a_container_is_recognised_by_its_files(tmp_path, path, text, expected):
    put(tmp_path, path, text)
    assert in_container(SysfsTree(tmp_path)) is expected


def test_machine_digits_tell_machines_apart_and_hide_their_ids(tmp_path):
    digits = []
    for number in "12":
        (tmp_path / number / "etc").mkdir(parents=True)
        (tmp_path / number / "etc" / "machine-id").write_text(number * 32 + "\n")
        digits.append(machine_digits(tmp_path / number))
    assert len(set(digits)) == 2
    assert all(len(one) == 8 and "1111" not in one for one in digits)
    assert machine_digits(tmp_path / "none") is None
