"""GPU readings by NVML, from a stand-in with the names of its bindings; none was at hand."""

import pytest

from cstl_edge.measure.conditions import MachineMonitor
from cstl_edge.measure.linux import SysfsTree
from cstl_edge.measure.nvml import NvmlGpu, visible_gpu

IDLE, USER, POWER, SLOWDOWN, HEAT, HOT, BRAKE = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40, 0x80
ANSWERS = {
    "DeviceGetName": b"NVIDIA L4",
    "SystemGetDriverVersion": "550.54.15",
    "DeviceGetClockInfo": {1: 2040, 2: 6251},
    "DeviceGetMaxClockInfo": {1: 2100},
    "DeviceGetTemperature": {0: 61},
    "DeviceGetPowerManagementLimit": 72000,
    "DeviceGetPersistenceMode": 1,
    "DeviceGetMigMode": [0, 0],
    "DeviceGetComputeRunningProcesses": ["ours", "another"],
    "DeviceGetCurrentClocksEventReasons": USER | POWER,
}


class Nvml:
    """The bindings; what has no answer raises, as the library does, or is not there at all."""

    class NVMLError(Exception):
        pass

    def __init__(self, answers, unknown=()):
        self._answers = answers
        self._unknown = unknown

    def __getattr__(self, name):
        key = name.removeprefix("nvml")
        if key in self._unknown or name == key:
            raise AttributeError(name)

        def ask(*arguments):
            if key.startswith("DeviceGetHandleBy"):
                if arguments[0] in (0, 3, "GPU-7"):
                    return arguments[0]
                raise self.NVMLError("not record")
            if key not in self._answers:
                raise self.NVMLError("not supported")
            answer = self._answers[key]
            return answer[arguments[1]] if isinstance(answer, dict) else answer

        return ask


def gpu(unknown=(), **answers):
    return NvmlGpu(Nvml(ANSWERS | answers, unknown), 0)


def test_clocks_and_settings_of_a_gpu_are_read():
    assert gpu().read() == {
        "mhz": 2040,
        "memory_mhz": 6251,
        "temperature_c": 61,
        "limited_by": ["set by the user", "power limit"],
        "processes": 2,
    }
    assert gpu().settings() == {
        "name": "NVIDIA L4",
        "driver": "550.54.15",
        "most_mhz": 2100,
        "persistence": True,
        "power_limit_w": 72.0,
        "mig": False,
    }


def test_values_that_a_gpu_does_not_report_are_absent():
    silent = NvmlGpu(Nvml({}), 0)
    assert silent.read() == {"limited_by": []}
    assert silent.settings() == {}
    assert silent.slowed() is False


@pytest.mark.parametrize(
    ("bits", "slowed"),
    [
        (0, False),
        (IDLE | USER | POWER, False),
        (SLOWDOWN, True),
        (HEAT | POWER, True),
        (HOT, True),
        (BRAKE, True),
    ],
)
def test_heat_and_brakes_void_samples_and_a_power_limit_does_not(bits, slowed, tmp_path):
    card = gpu(DeviceGetCurrentClocksEventReasons=bits)
    assert card.slowed() is slowed
    monitor = MachineMonitor(SysfsTree(tmp_path), card)
    assert monitor.throttled(device=True) is slowed
    assert monitor.throttled(device=False) is False


def test_older_bindings_have_another_name_for_reasons():
    card = gpu(
        unknown=("DeviceGetCurrentClocksEventReasons",),
        DeviceGetCurrentClocksThrottleReasons=HOT,
    )
    assert card.read()["limited_by"] == ["heat, hardware"]


def test_the_monitor_records_the_gpu(tmp_path):
    monitor = MachineMonitor(SysfsTree(tmp_path), gpu())
    monitor.begin()
    record = monitor.end()
    assert record["before"]["gpu"]["temperature_c"] == 61
    assert record["settings"]["gpu"]["power_limit_w"] == 72.0


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("0", True), ("3,0", True), ("GPU-7", True), ("5", False), ("", False), ("MIG-1", False)],
)
def test_the_gpu_is_the_first_that_cuda_would_take(visible, expected):
    card = visible_gpu(Nvml(ANSWERS), visible)
    assert (card is not None) is expected
