"""Counters of energy: units, wrap-around, refusals."""

from types import SimpleNamespace

import pytest
from standin_bench import raising

from cstl_edge.bench.power import counters
from cstl_edge.bench.power.counters import NvmlMeter, RaplMeter
from cstl_edge.bench.power.open import open_meters
from cstl_edge.errors import DataError, SourceUnavailable

PACKAGE = "sys/class/powercap/intel-rapl:0"


class Error(Exception):
    """In place of pynvml.NVMLError."""


class Library:
    """In place of pynvml: one GPU with a counter [mJ] and a power [mW]."""

    NVMLError = Error

    def __init__(self, counter=True, gpus=1, power=True):
        self.counter, self.gpus, self.power = counter, gpus, power
        self.mj, self.open = 5_000_000, 0

    def nvmlInit(self):
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, index):
        if index >= self.gpus:
            raise Error("Invalid Argument")
        return SimpleNamespace(index=index)

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu):
        if not self.counter:
            raise Error("Not Supported")
        return self.mj

    def nvmlDeviceGetPowerUsage(self, gpu):
        if not self.power:
            raise Error("Not Supported")
        return 72_500


def test_the_energy_counter_is_taken_where_there_is_one():
    library = Library()
    meter = NvmlMeter(library)
    before = meter.read()["gpu"]
    library.mj += 1500
    assert meter.read()["gpu"] - before == pytest.approx(1.5)
    assert (meter.kind, meter.scopes) == ("joules", {"gpu": ("gpu",)})
    meter.close()
    assert library.open == 0


def test_power_is_taken_where_there_is_no_counter():
    meter = NvmlMeter(Library(counter=False))
    assert (meter.kind, meter.read()) == ("watts", {"gpu": 72.5})


def test_a_gpu_that_is_not_there_or_vanishes_is_one_line():
    library = Library(gpus=0)
    with pytest.raises(SourceUnavailable, match="NVML finds no GPU: Invalid Argument"):
        NvmlMeter(library)
    assert library.open == 0
    library = Library()
    meter = NvmlMeter(library)
    library.counter = False
    with pytest.raises(SourceUnavailable, match=r"counter does not answer \(Not Supported\)"):
        meter.read()


def test_without_the_package_the_error_names_the_remedy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    with pytest.raises(SourceUnavailable, match="pip install nvidia-ml-py"):
        NvmlMeter()


def test_a_counter_that_begins_anew_is_counted_on(board_tree):
    root = board_tree("pc")
    meter = RaplMeter(root)
    assert meter.scopes == {"package": ("package-0",)}  # no core, no psys: they are in it or around
    before = meter.read()["package-0"]
    (root / PACKAGE / "energy_uj").write_text("1000000\n")
    assert meter.read()["package-0"] - before == pytest.approx((610987 + 1 + 1000000) / 1e6)
    (root / PACKAGE / "energy_uj").write_text("500000\n")  # once more
    assert meter.read()["package-0"] - before == pytest.approx(65532610988 * 2e-6 - 65531.5)


def test_a_counter_for_root_only_names_the_remedy(board_tree, monkeypatch):
    root, read = board_tree("pc"), counters.Path.read_bytes
    denied = raising(PermissionError(13, "Permission denied"))
    monkeypatch.setattr(
        counters.Path, "read_bytes", lambda x: denied() if x.name == "energy_uj" else read(x)
    )
    with pytest.raises(SourceUnavailable, match=r"root only: sudo chmod a\+r .*/energy_uj"):
        RaplMeter(root)


def test_a_counter_that_vanishes_or_reads_nonsense_is_one_line(board_tree):
    root = board_tree("pc")
    meter = RaplMeter(root)
    (root / PACKAGE / "energy_uj").write_text("much")
    with pytest.raises(DataError, match="expected a whole number; got b'much'"):
        meter.read()
    (root / PACKAGE / "energy_uj").unlink()
    with pytest.raises(SourceUnavailable, match="does not answer"):
        meter.read()


def test_all_meters_of_a_machine_are_opened(board_tree):
    opened = open_meters(board_tree("pc"), lambda: NvmlMeter(Library()))
    assert [meter.kind for meter in opened.meters] == ["joules", "joules"]
    assert opened.headline("cpu") == "package"
    assert opened.headline("gpu") == "gpu"
    for meter in opened.meters:
        meter.close()


def test_a_meter_that_opens_and_does_not_answer_is_none(board_tree):
    library = Library(counter=False, power=False)  # as on a board
    opened = open_meters(board_tree("thor"), lambda: NvmlMeter(library))
    assert [meter.name for meter in opened.meters] == ["INA3221/INA238 rails through sysfs"]
    assert opened.missing[0] == "NVML power does not answer (Not Supported): run `power` again"
    assert library.open == 0
    for meter in opened.meters:
        meter.close()
