"""The rails of three boards, read from trees laid out like theirs."""

import errno
import os

import pytest
from standin_bench import raising

from cstl_edge.bench.power.open import open_meters
from cstl_edge.bench.power.rails import RailMeter, find_channels, scopes
from cstl_edge.errors import DataError, SourceUnavailable

CHIP = "sys/class/hwmon/hwmon1"
WATTS = {
    "orin_nano": {"VDD_IN": 4.556160, "VDD_CPU_GPU_CV": 0.805120, "VDD_SOC": 1.489472},
    "agx_orin": {
        "VDD_GPU_SOC": 3.217536, "VDD_CPU_CV": 0.766080,
        "VIN_SYS_5V0": 4.928256, "VDDQ_VDD2_1V8AO": 0.714240,
    },
    "thor": {
        "VDD_GPU": 0.0, "VDD_CPU_SOC_MSS": 6.324800, "VIN_SYS_5V0": 5.251904, "VIN": 23.257800,
    },
}  # fmt: skip
SUMS = {
    "orin_nano": {"module": 4.556160, "gpu": 0.805120, "soc": 1.489472},
    "agx_orin": {"module": 8.911872, "gpu": 3.217536, "cpu": 0.766080},
    "thor": {"module": 11.576704, "gpu": 0.0, "cpu": 6.324800, "carrier": 23.257800},
}


def rails_of(root):
    return RailMeter(find_channels(root))


@pytest.mark.parametrize("board", WATTS)
def test_every_rail_of_a_board(board, board_tree):
    rails = rails_of(board_tree(board))
    actual = rails.read()
    assert actual == pytest.approx(WATTS[board])
    sums = {scope: sum(actual[x] for x in names) for scope, names in rails.scopes.items()}
    assert sums == pytest.approx(SUMS[board])
    rails.close()


def test_values_are_read_anew(board_tree):
    root = board_tree("orin_nano")
    rails = rails_of(root)
    before = rails.read()["VDD_IN"]
    (root / CHIP / "curr1_input").write_text("2000\n")
    assert rails.read()["VDD_IN"] == pytest.approx(5.04 * 2.0)
    assert before == pytest.approx(4.556160)
    rails.close()


def test_currents_that_flow_back_stay_negative(board_tree):
    root = board_tree("thor", **{"sys/class/hwmon/hwmon2/curr1_input": "-32\n"})
    assert rails_of(root).read()["VDD_GPU"] == pytest.approx(-0.3776)


def test_channels_that_are_off_or_not_wired_are_no_rails(board_tree):
    root = board_tree("orin_nano", **{f"{CHIP}/in3_enable": "0", f"{CHIP}/in2_label": "NC"})
    assert [*find_channels(root)] == ["VDD_IN"]
    gone = board_tree("orin_nano", **{f"{CHIP}/curr1_input": None, f"{CHIP}/in3_label": None})
    assert [*find_channels(gone)] == ["VDD_CPU_GPU_CV"]


def test_an_unknown_board_is_the_sum_of_its_rails():
    assert scopes(["A", "B"]) == {"rails": ("A", "B")}
    assert set(scopes(["VDD_IN", "VDD_SOC"])) == {"module", "soc"}


@pytest.mark.parametrize("text", ["", "12.5", "ERROR", "\x00\xff"])
def test_a_garbled_sensor_file_is_one_line(text, board_tree):
    root = board_tree("orin_nano")
    (root / CHIP / "curr1_input").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="expected a whole number; got") as error:
        rails_of(root).read()
    assert "\n" not in str(error.value)


def test_a_power_that_no_board_has_is_refused(board_tree):
    root = board_tree("orin_nano", **{f"{CHIP}/curr1_input": "2147483647"})
    with pytest.raises(DataError, match="VDD_IN: expected at most 1000 W; got"):
        rails_of(root).read()


def test_a_chip_that_vanishes_is_one_line(board_tree, monkeypatch):
    rails = rails_of(board_tree("orin_nano"))
    monkeypatch.setattr(os, "pread", raising(OSError(errno.ENODEV, os.strerror(errno.ENODEV))))
    with pytest.raises(SourceUnavailable, match=r"rail in1_input of hwmon1 does not answer \(No"):
        rails.read()


def test_a_file_that_may_not_be_read_is_one_line(board_tree, monkeypatch):
    root = board_tree("orin_nano")
    monkeypatch.setattr(os, "open", raising(OSError(errno.EACCES, os.strerror(errno.EACCES))))
    with pytest.raises(SourceUnavailable, match=r"cannot read .*in1_input: Permission denied"):
        rails_of(root)


def test_a_machine_without_any_meter_names_the_missing_ones(tmp_path):
    no_gpu = raising(SourceUnavailable("NVML finds no GPU: Driver Not Loaded"))
    actual = open_meters(tmp_path, no_gpu)
    assert actual.meters == []
    rails, nvml, rapl = actual.missing
    assert rails == "no labelled channel of ina3221, ina3221x, ina238 in /sys/class/hwmon"
    assert nvml == "NVML finds no GPU: Driver Not Loaded"
    assert rapl == "no processor package in /sys/class/powercap"
