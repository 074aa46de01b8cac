"""GPU memory: one conformance suite for all libraries, and the choice among them.

On a machine without a GPU the two libraries are stand-ins with the names and manners of the real
ones (`tests/contract` compares the names); where a GPU answers, the real ones run as well.
"""

import importlib.util
import json
import sys

import numpy as np
import pytest
from command_line import call
from standin_cuda import GONE, NO_DEVICE, Device, NumpyBuffers, bindings, pycuda
from standin_tensorrt import State, make

from cstl_edge.errors import BackendUnavailable, ConfigError
from cstl_edge.registry import Entry
from cstl_edge.runtime.cuda import open
from cstl_edge.runtime.cuda.base import CudaError
from cstl_edge.runtime.cuda.open import open_buffers


@pytest.fixture
def device():
    return Device()


@pytest.fixture
def stand_in(device, monkeypatch):
    """Put the stand-ins of both libraries in the place of the real ones."""
    modules, library = pycuda(device)
    for name, module in {**bindings(device), **modules}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("cstl_edge.runtime.cuda.pycuda.ctypes.CDLL", lambda name: library)
    return modules["pycuda.driver"]


def _real(name):
    if importlib.util.find_spec(name.split(".")[0]) is None:
        pytest.skip(f"{name} is not installed")
    try:
        return open_buffers(name)
    except BackendUnavailable as err:
        pytest.skip(f"needs an NVIDIA GPU: {err}")


REAL = [pytest.param(f"real {name}", marks=pytest.mark.gpu) for name in open.LIBRARIES]


@pytest.fixture(params=["numpy", "cuda.bindings", "pycuda", *REAL])
def buffers(request, device):
    if request.param == "numpy":
        opened = NumpyBuffers(device)
    elif request.param.startswith("real"):
        opened = _real(request.param.removeprefix("real "))
    else:
        request.getfixturevalue("stand_in")
        opened = open_buffers(request.param)
    yield opened
    opened.close()


def test_uploaded_bytes_are_downloaded_unchanged(buffers):
    source, target = (buffers.pinned((3, 5), np.float16) for _ in range(2))
    source[...] = np.arange(15).reshape(3, 5)
    pointer = buffers.device(source.nbytes)
    buffers.upload(pointer, source)
    buffers.download(target, pointer)
    buffers.synchronize()
    np.testing.assert_array_equal(target, source)
    assert target.dtype == np.float16


def test_bytes_move_within_the_gpu(buffers):
    source, target = (buffers.pinned((4, 3), np.float32) for _ in range(2))
    source[...] = np.arange(12).reshape(4, 3)
    first, second = (buffers.device(source.nbytes) for _ in range(2))
    buffers.upload(first, source)
    buffers.zero(second, source.nbytes)
    buffers.copy(second + 12, first, 24)  # two rows of three
    buffers.download(target, second)
    buffers.synchronize()
    np.testing.assert_array_equal(target[[0, 3]], np.zeros((2, 3)))
    np.testing.assert_array_equal(target[1:3], source[:2])


def test_mapped_memory_is_that_of_both_sides(buffers):
    array, pointer = buffers.mapped((2, 3), np.int32)
    target = buffers.pinned((2, 3), np.int32)
    np.testing.assert_array_equal(array, np.zeros((2, 3)))
    array[...] = [[1, 2, 3], [4, 5, 6]]
    buffers.download(target, pointer)
    buffers.synchronize()
    np.testing.assert_array_equal(target, array)
    buffers.zero(pointer, array.nbytes)
    buffers.synchronize()
    assert not array.any()


def test_pinned_memory_begins_as_zeros_and_can_be_written(buffers):
    array = buffers.pinned((2, 7), np.int32)
    np.testing.assert_array_equal(array, np.zeros((2, 7), np.int32))
    array += 1
    assert array.sum() == 14


def test_the_stream_is_not_the_default_one(buffers):
    assert isinstance(buffers.stream, int)
    assert buffers.stream not in (0, 1, 2)  # legacy and per-thread default streams


def test_a_captured_graph_runs_only_when_it_is_replayed(buffers):
    source, target = (buffers.pinned((4,), np.float32) for _ in range(2))
    pointer = buffers.device(source.nbytes)
    buffers.upload(pointer, source)
    buffers.synchronize()
    source[...] = 1

    def work():
        buffers.upload(pointer, source)
        buffers.download(target, pointer)

    graph = buffers.capture(work)
    buffers.synchronize()
    np.testing.assert_array_equal(target, 0)
    for value in (1, 2):
        source[...] = value
        buffers.replay(graph)
        buffers.synchronize()
        np.testing.assert_array_equal(target, value)


def test_a_failed_capture_leaves_the_stream_usable(buffers):
    def work():
        raise CudaError("capture failed")

    with pytest.raises(CudaError, match="capture failed"):
        buffers.capture(work)
    test_uploaded_bytes_are_downloaded_unchanged(buffers)  # the stream takes ordinary work again


def test_events_time_the_work_between_them(buffers):
    array, (first, second, third) = (
        buffers.pinned((2**20,), np.float32),
        (buffers.event() for _ in range(3)),
    )
    pointer = buffers.device(array.nbytes)
    for _ in range(2):  # events are used again
        buffers.mark(first)
        buffers.upload(pointer, array)
        buffers.mark(second)
        buffers.mark(third)
        buffers.synchronize()
        copied_ms = buffers.elapsed_ms(first, second)
        assert 0 < copied_ms < buffers.elapsed_ms(first, third) + 1e-3
        assert buffers.elapsed_ms(second, third) >= 0


def test_gpu_reports_name_capability_and_memory(buffers):
    gpu = buffers.gpu()
    assert gpu.name
    assert "\0" not in gpu.name
    assert gpu.sm >= 50
    assert 0 < gpu.free_bytes <= gpu.total_bytes
    assert float(gpu.cuda) >= 11


def test_more_memory_than_the_gpu_has_is_refused(buffers):
    with pytest.raises(CudaError):
        buffers.device(buffers.gpu().total_bytes * 2)


def test_closing_frees_all_memory(buffers, device):
    pointer, array = buffers.device(16), buffers.pinned((4,), np.float32)
    buffers.upload(pointer, array)
    buffers.mark(buffers.event())
    buffers.synchronize()
    if not buffers.name.startswith("numpy"):
        buffers.replay(buffers.capture(lambda: buffers.upload(pointer, array)))
        buffers.synchronize()
    buffers.close()
    buffers.close()
    assert [*device.memory, *device.streams, *device.events] == []


@pytest.mark.parametrize("name", ["cuda.bindings", "pycuda"])
def test_a_lost_gpu_is_an_error_at_every_call(name, stand_in, device):
    buffers = open_buffers(name)
    pointer, array = buffers.device(16), buffers.pinned((4,), np.float32)
    device.fault = GONE
    for refused in (
        lambda: buffers.device(16),
        lambda: buffers.pinned((4,), np.float32),
        lambda: buffers.upload(pointer, array),
        lambda: buffers.download(array, pointer),
        buffers.synchronize,
        lambda: buffers.capture(lambda: None),
    ):
        with pytest.raises(CudaError):
            refused()
    buffers.close()


@pytest.mark.parametrize("name", ["cuda.bindings", "pycuda"])
def test_a_missing_gpu_names_the_tool_to_look_with(name, stand_in, device):
    device.fault = NO_DEVICE
    with pytest.raises(BackendUnavailable, match="nvidia-smi"):
        open_buffers(name)


def test_pycuda_works_in_the_primary_context_and_leaves_it(stand_in):
    buffers = open_buffers("pycuda")
    assert len(stand_in.contexts) == 1
    buffers.close()
    assert stand_in.contexts == []


def test_the_first_that_is_installed_serves_and_the_environment_decides(stand_in, monkeypatch):
    monkeypatch.delenv(open.VARIABLE, raising=False)
    assert open_buffers().name == "cuda.bindings 12.9"
    monkeypatch.setenv(open.VARIABLE, "pycuda")
    assert open_buffers().name == "pycuda 2026.1"
    monkeypatch.delenv(open.VARIABLE)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    assert open_buffers().name == "pycuda 2026.1"


def test_without_a_library_the_error_names_the_package(monkeypatch):
    for name in ("cuda.bindings", "pycuda"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendUnavailable, match=r"pip install .cuda-bindings"):
        open_buffers()


def test_an_unknown_library_is_refused():
    with pytest.raises(ConfigError, match=r"cuda\.bindings, pycuda; got 'cupy'"):
        open_buffers("cupy")


MINE = """
from standin_cuda import Device, NumpyBuffers

def open_mine():
    return NumpyBuffers(Device(name="a card of mine"))
"""


def test_a_library_is_a_file_and_a_line_of_the_table(tmp_path, monkeypatch, device):
    (tmp_path / "my_library.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(open.LIBRARIES.entries, "mine", Entry("my_library:open_mine", "of a test"))
    monkeypatch.setitem(sys.modules, "tensorrt", make(State(device)))
    monkeypatch.setenv(open.VARIABLE, "mine")
    monkeypatch.setattr(
        "cstl_edge.doctor._tensorrt_fault", lambda: None
    )  # its child has no stand-in
    findings = json.loads(call("doctor", "--json").stdout)["findings"]
    (finding_of_tensorrt,) = (finding for finding in findings if finding["what"] == "tensorrt")
    assert finding_of_tensorrt["state"] == "ok"
    assert "a card of mine" in finding_of_tensorrt["detail"]
