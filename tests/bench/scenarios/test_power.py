"""Scenario `power`: gross, idle and net watts, warnings, and reasons of missing figures."""

import dataclasses
import time

import pytest
from standin_bench import raising, ran

from cstl_edge.bench.backends.open import BENCH_BACKENDS
from cstl_edge.bench.power.open import open_meters
from cstl_edge.bench.power.rails import RailMeter, find_channels
from cstl_edge.bench.power.workloads import RunningWorkload, Workload
from cstl_edge.bench.record import Case, Check, Row
from cstl_edge.bench.scenarios import power
from cstl_edge.errors import ModelError, SourceUnavailable

CHIP = "sys/class/hwmon/hwmon1"
RAN = ran()
WATTS = {"VDD_IN": 4.556160, "VDD_CPU_GPU_CV": 0.805120, "VDD_SOC": 1.489472}
FULL = Case(graph="full", batch=1, frames=30)


@pytest.fixture
def context(reduced, monkeypatch):
    monkeypatch.setattr(power, "FEWEST_S", 0.15)
    monkeypatch.setattr(power, "SETTLE_S", 0)
    return dataclasses.replace(reduced, short=False)


@pytest.fixture
def board(board_tree, monkeypatch):
    """An Orin Nano that has no GPU for NVML."""
    monkeypatch.setattr(power, "open_meters", lambda root: open_meters(root, no_gpu))
    return board_tree("orin_nano")


no_gpu = raising(SourceUnavailable("NVML is not on this machine"))


def load(run, check=lambda: None, name="onnxruntime float32"):
    return Workload(name, FULL, lambda stack: RunningWorkload(RAN, run, check))


@pytest.fixture
def runs(monkeypatch):
    """Let the scenario have these workloads alone."""
    return lambda *loads: monkeypatch.setattr(power, "workloads", lambda context: loads)


def draw(root, idle_ma, busy_ma, times=2):
    """Return a run of 2 ms that draws `busy_ma` from its call number `times` on, and its calls."""
    file = root / CHIP / "curr1_input"
    file.write_text(f"{idle_ma:8}")
    calls = []

    def run():
        calls.append(1)
        if len(calls) == times:
            with file.open("r+") as sensor:  # never empty, not even for a moment
                sensor.write(f"{busy_ma:8}")
        time.sleep(0.002)
        return 1

    return run, calls


def test_net_power_is_gross_less_idle(context, board, runs):
    run, calls = draw(board, 500, 2000)
    agreed = Check(reference="r", cosine=1.0, max_abs=0.0, ok=True)
    runs(load(run, lambda: agreed))
    (row,) = power.rows(context, board)
    values = row.values
    assert values["watts_idle"] == pytest.approx(5.04 * 0.5)
    assert 5.04 * 0.5 < values["watts_gross"] < 5.04 * 2.0 * 1.001  # the first may be before
    assert values["watts_net"] == pytest.approx(values["watts_gross"] - values["watts_idle"])
    assert values["embeddings"] == len(calls) - 1  # the first was in no recording
    each_s = values["seconds"] / values["embeddings"]
    for kind in ("gross", "net"):
        joules = values[f"joules_per_embedding_{kind}"]
        assert joules == pytest.approx(values[f"watts_{kind}"] * each_s)
    assert values["watts_gross_gpu"] == pytest.approx(5.032 * 0.160)
    assert values["watts_net_soc"] == pytest.approx(0.0)
    assert values["samples_hz"] > 0
    assert row.details["scope"] == "module"
    assert set(row.details["rails"]) == {"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"}
    assert (row.check, row.ran, row.case) == (agreed, RAN, FULL)
    assert len(row.samples["wall"]) > 0
    assert Row.model_validate(row.model_dump(mode="json")) == row


def test_power_rows_warn_of_doubtful_figures(context, board, monkeypatch, runs):
    (board / CHIP / "curr3_input").write_text("-100")
    runs(load(draw(board, 900, 300)[0]))
    monkeypatch.setattr(power, "LOWEST_HZ", 1e6)
    (row,) = power.rows(context, board)
    text = " | ".join(row.warnings)
    assert "slow meter: INA3221/INA238 rails through sysfs gave" in text
    assert "negative power on VDD_SOC" in text
    assert "net power is not above 0" in text


def test_nothing_embedded_has_no_joules(context, board, runs):
    runs(load(lambda: time.sleep(0.002) or 0))
    (row,) = power.rows(context, board)
    assert not [name for name in row.values if name.startswith("joules")]
    assert "no embedding came of it: expected a longer run" in row.warnings


class Tool:
    """In place of tegrastats."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @staticmethod
    def is_installed():
        return True

    def watts(self):
        """Return what a test sets."""


@pytest.mark.parametrize(("tool_w", "differs"), [(10.0, False), (14.0, True), (None, False)])
def test_tegrastats_is_compared(context, board, monkeypatch, tool_w, differs, runs):
    runs(load(draw(board, 2000, 2000)[0]))
    monkeypatch.setattr(power, "Tegrastats", Tool)
    watts = {"VDD_IN": tool_w} if tool_w else {"OTHER": 1.0}
    monkeypatch.setattr(Tool, "watts", lambda self: watts)
    (row,) = power.rows(context, board)
    assert row.values.get("watts_gross_tegrastats") == tool_w
    assert any("tegrastats says" in line for line in row.warnings) is differs
    if tool_w:
        assert row.details["rails"]["VDD_IN"]["tegrastats_w"] == tool_w


def test_a_meter_that_vanishes_is_one_line_and_the_end(context, board, monkeypatch, runs):
    readings = []

    def vanishing(self):
        readings.append(1)
        if len(readings) > 8:
            raise SourceUnavailable("the power rail stopped answering")
        return {"VDD_IN": 5.0, "VDD_CPU_GPU_CV": 1.0, "VDD_SOC": 1.0}

    monkeypatch.setattr(RailMeter, "read", vanishing)
    runs(load(lambda: 1), load(lambda: 1))
    (row,) = power.rows(context, board)
    assert row.skipped == "the power rail stopped answering"
    assert not row.values


def test_a_refused_or_wrong_workload_has_a_row_and_the_next_is_measured(context, board, runs):
    run, _ = draw(board, 500, 2000)
    refused = Workload("a", FULL, raising(ModelError("the engine is refused")))
    wrong = load(run, raising(ModelError("answers wrongly: cosine 0.5")), "b")
    runs(refused, wrong, load(run, name="c"))
    a, b, c = power.rows(context, board)
    assert (a.skipped, b.skipped) == ("the engine is refused", "answers wrongly: cosine 0.5")
    assert c.skipped is None


def test_a_meter_with_nonsense_readings_from_the_start_is_left_out(context, board):
    (board / CHIP / "curr1_input").write_text("much")
    (row,) = power.rows(context, board)
    assert "expected a whole number; got b'much'" in row.skipped
    assert "\n" not in row.skipped


def test_of_two_meters_that_see_the_same_the_first_counts(context, board, monkeypatch, runs):
    meters = open_meters(board, lambda: RailMeter(find_channels(board)))
    assert len(meters.meters) == 2
    monkeypatch.setattr(meters.meters[1], "read", lambda: dict.fromkeys(WATTS, 900.0))
    monkeypatch.setattr(power, "open_meters", lambda root: meters)
    runs(load(lambda: time.sleep(0.002) or 1))
    (row,) = power.rows(context, board)
    assert row.values["watts_gross"] == pytest.approx(WATTS["VDD_IN"])
    assert row.values["watts_gross_gpu"] == pytest.approx(WATTS["VDD_CPU_GPU_CV"])


def test_without_a_meter_one_row_names_the_missing_meters(context, tmp_path, monkeypatch):
    monkeypatch.setattr(power, "open_meters", lambda root: open_meters(root, no_gpu))
    (row,) = power.rows(context, tmp_path)
    assert row.skipped == (
        "no power meter on this machine: no labelled channel of ina3221, ina3221x, ina238 in "
        "/sys/class/hwmon; NVML is not on this machine; no processor package in /sys/class/powercap"
    )


@pytest.fixture
def onnxruntime_alone(monkeypatch):
    """Leave out the other backends, which take long to import."""
    entry = BENCH_BACKENDS.entries["onnxruntime"]
    monkeypatch.setattr(BENCH_BACKENDS, "entries", {"onnxruntime": entry})


def test_the_network_itself_back_to_back_and_paced(context, board, onnxruntime_alone):
    names = {}
    for row in power.rows(context, board):
        assert row.skipped is None, row.skipped
        names[row.contender, row.case.graph] = row
    both = ("onnxruntime float32", "onnxruntime int8")
    assert set(names) == {(name, graph) for name in both for graph in ("full", "streaming")}
    full = names["onnxruntime int8", "full"]
    assert full.check.ok
    assert full.ran.precision == "int8"
    assert full.values["embeddings"] >= len(full.samples["wall"])
    paced = names["onnxruntime float32", "streaming"]
    assert (paced.case.paced_hz, paced.case.hop) == (25.0, 5)
    calls = len(paced.samples["wall"]) + 1  # measuring begins with a call that is no sample
    assert calls // 5 <= paced.values["embeddings"] <= calls // 5 + 1


def test_the_short_form_runs_float32_only(context, board, onnxruntime_alone):
    (row,) = power.rows(dataclasses.replace(context, short=True), board)
    assert (row.contender, row.case, row.skipped) == ("onnxruntime float32", FULL, None)
