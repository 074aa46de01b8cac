"""Doctor: what a TensorRT that does not start, hangs or crashes comes to."""

import subprocess
import sys

import pytest
import standin_site
import standin_tensorrt
from standin_cuda import NumpyBuffers

from cstl_edge import doctor


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Make this process and its children run on a stand-in; call it to say what it is."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path) + ":" + ":".join(filter(None, sys.path)))

    def make(**what):
        standin_site.site(tmp_path, **what)
        state = standin_site.state_of(what)
        monkeypatch.setitem(sys.modules, "tensorrt", standin_tensorrt.make(state))
        buffers = lambda: NumpyBuffers(state.device)  # noqa: E731
        monkeypatch.setattr("cstl_edge.runtime.cuda.open.open_buffers", buffers)

    return make


def test_a_tensorrt_that_starts_is_fine(machine):
    machine()
    finding = doctor._tensorrt()
    assert finding.state == "ok"
    assert "10.3.0 on Orin (sm_87)" in finding.detail


def test_a_tensorrt_that_cannot_start_cuda_is_broken_in_one_line(machine):
    machine(start_error="CUDA initialization failure with error: 35")
    finding = doctor._tensorrt()
    assert finding.state == "broken"
    assert "error: 35" in finding.detail
    assert "CUDA 12.6" in finding.detail
    assert "\n" not in str(finding)


@pytest.mark.parametrize(("code", "words"), [(-11, "signal 11"), (1, "said so")])
def test_a_tensorrt_that_crashes_takes_only_a_child(machine, monkeypatch, code, words):
    machine()
    done = subprocess.CompletedProcess([], code, "", "said so")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: done)
    finding = doctor._tensorrt()
    assert (finding.state, words in finding.detail) == ("broken", True)


def test_a_tensorrt_that_hangs_is_broken(machine, monkeypatch):
    machine()

    def hang(command, **_):
        raise subprocess.TimeoutExpired(command, 60)

    monkeypatch.setattr(doctor.subprocess, "run", hang)
    assert "within 60 s" in doctor._tensorrt().detail
