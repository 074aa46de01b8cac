"""Tegrastats: its lines in the forms of three boards, and the running tool."""

import sys
import time
from pathlib import Path

import pytest

from cstl_edge.bench.power import tegrastats
from cstl_edge.bench.power.tegrastats import Tegrastats, parse_rails
from cstl_edge.errors import DataError

RECORDED = Path(__file__).parents[1] / "recorded" / "tegrastats.txt"
NANO, AGX, OLD, THOR = RECORDED.read_text(encoding="utf-8").splitlines()[1:]


def test_lines_of_an_orin_nano_are_parsed():
    expected = {"VDD_IN": (4521, 4480), "VDD_CPU_GPU_CV": (845, 803), "VDD_SOC": (1449, 1449)}
    assert parse_rails(NANO) == expected


def test_lines_of_an_agx_orin_are_parsed():
    expected = {"VDD_GPU_SOC": (3150, 2971), "VDD_CPU_CV": (14312, 12415)}
    expected |= {"VIN_SYS_5V0": (4968, 5048), "VDDQ_VDD2_1V8AO": (1091, 1091)}
    assert parse_rails(AGX) == expected
    assert parse_rails(OLD)["VDD_GPU_SOC"] == (2388, 2388)


def test_lines_of_a_thor_are_parsed():
    rails = parse_rails(THOR)
    assert rails["VDD_GPU"] == (-392, -392)
    assert rails["VIN"] == (23257, 23310)


@pytest.mark.parametrize("line", ["", "tegrastats: not found", NANO[:40], NANO.replace("CPU", "C")])
def test_other_lines_are_refused(line):
    with pytest.raises(DataError, match="expected a line of tegrastats; got"):
        parse_rails(line)


def test_the_tool_runs_while_the_block_does():
    lines = [NANO, NANO.replace("4521mW", "5521mW"), "RAM 12"]
    script = f"import time\nfor line in {lines!r}: print(line, flush=True)\ntime.sleep(60)"
    with Tegrastats([sys.executable, "-c", script]) as tool:
        deadline = time.monotonic() + 20
        while len(tool.lines) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
    assert tool.watts() == pytest.approx(
        {"VDD_IN": 5.021, "VDD_CPU_GPU_CV": 0.845, "VDD_SOC": 1.449}
    )
    assert tool._child.returncode is not None


def test_no_excerpt_without_the_tool(monkeypatch):
    monkeypatch.setattr(tegrastats.shutil, "which", lambda name: None)
    assert tegrastats.excerpt(seconds=0) == []
