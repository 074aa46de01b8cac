"""Engine records: a mismatch is refused before any engine is deserialised."""

import json
import os
import shutil
import sys

import pytest
from standin_cuda import NO_DEVICE, Device, NumpyBuffers
from standin_engines import seal
from standin_tensorrt import State, make

from cstl_edge.errors import BackendUnavailable, ModelError
from cstl_edge.runtime import load
from cstl_edge.runtime.cuda.base import CudaError
from cstl_edge.runtime.tensorrt import encoder as trt_runtime

CREATOR = ("CstlPartGather", "2", "cstl_edge")


@pytest.fixture
def library(tmp_path):
    """A file that stands for the plugin library."""
    path = tmp_path / "libcstl_part_gather.so"
    path.write_bytes(b"plugin")
    return path


@pytest.fixture
def state(monkeypatch, library):
    """An Orin with TensorRT 10.3.0 and our plugin library."""
    state = State(Device(), {str(library): [CREATOR]})
    state.opened = 0

    def open_buffers():
        state.opened += 1
        return NumpyBuffers(state.device)

    monkeypatch.setitem(sys.modules, "tensorrt", make(state))
    monkeypatch.setattr(trt_runtime, "open_buffers", open_buffers)
    monkeypatch.setattr(trt_runtime, "plugin_library", lambda trt: library)
    return state


def refused(folder, state, opened=0):
    """Check that the folder is refused without deserialising; return the message."""
    with pytest.raises(ModelError) as error:
        load(folder, backend="tensorrt")
    assert state.deserialised == 0
    assert state.opened == opened, "the GPU was opened before the files were in order"
    assert "\n" not in str(error.value)
    return str(error.value)


def record(place):
    return place / "head.plan.json"


def change(place, **values):
    path = record(place)
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_fitting_engines_are_opened_once_per_graph(folder, state):
    seal(folder)
    load(folder, backend="tensorrt").close()
    assert state.deserialised == 2


def profile(features=(1, 6, 4, 16), lengths=(1,)):
    """Return a profile of the head whose sizes are fixed but for the smallest lengths."""
    fixed = {"min": features, "opt": features, "max": features}
    return {"features": fixed, "lengths": {"min": lengths, "opt": (1,), "max": (1,)}}


# Files


def unlink(place, name):
    (place / name).unlink()


def link(place, name):
    elsewhere = shutil.move(place / name, place.parents[2] / name)
    (place / name).symlink_to(elsewhere)


def open_to_all(place, name):
    (place / name).chmod((place / name).stat().st_mode | 0o002)


def cut(place, length):
    (place / "head.plan").write_bytes((place / "head.plan").read_bytes()[:length])


def flip_a_bit(place, name):
    data = bytearray((place / name).read_bytes())
    data[len(data) // 2] ^= 1
    (place / name).write_bytes(data)


def put_a_folder(place, name):
    unlink(place, name)
    (place / name).mkdir()


def write(place, text):
    record(place).write_text(text)


def take_the_record_of(place, graph):
    shutil.copy(place / f"{graph}.plan.json", record(place))


@pytest.mark.parametrize(
    ("spoil", "what", "message"),
    [
        *((unlink, f"{graph}.plan", "is missing") for graph in ("frames", "head")),
        *((unlink, f"{graph}.plan.json", "is missing") for graph in ("frames", "head")),
        *((link, name, "is a link") for name in ("head.plan", "head.plan.json")),
        (open_to_all, "head.plan", "can be written by everybody"),
        (open_to_all, "head.plan.json", "can be written by everybody"),
        (open_to_all, ".", "can be written by everybody"),
        (put_a_folder, "head.plan", "expected"),
        *((cut, length, "changed, cut or damaged") for length in (0, 1, 100)),
        (flip_a_bit, "frames.plan", "changed, cut or damaged"),
        *((write, text, "expected JSON") for text in ("", "{", "[" * 100_000, "\x00")),
        (write, "[]", "dictionary"),
        (write, "{}", "format"),
        (write, " " * (2**20 + 1), "at most"),
        (take_the_record_of, "frames", "expected the graph head; got frames"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)[:20]),
)
def test_a_changed_file_is_refused(folder, state, spoil, what, message):
    spoil(seal(folder), what)
    assert message in refused(folder, state)


def test_files_of_another_user_are_refused(folder, state, monkeypatch):
    seal(folder)
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    if mine == 0:  # root's files are trusted by all: give one away
        os.chown(folder / "engines" / "tensorrt" / "head.plan", 12345, -1)
    assert "belongs to user" in refused(folder, state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format"),
        ({"plan_sha256": "0"}, "plan_sha256"),
        ({"library": "tensorflow"}, "library"),
        ({"profiles": []}, "profiles"),
        ({"profiles": [{}]}, "expected profiles of features, lengths"),
        ({"profiles": [profile(features=(1, 2, 2))]}, "expected profiles of features, lengths"),
        ({"profiles": [profile(lengths=(2,))]}, "expected min <= opt <= max"),
        ({"window": 0}, "window"),
        ({"sm": "87"}, "sm"),
    ],
)
def test_a_record_of_another_form_is_refused(folder, state, changes, message):
    change(seal(folder), **changes)
    assert message in refused(folder, state)


# Model


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"weights_sha256": "a" * 64}, ["built from the weights aaaaaaaaaaaa…", "0ffe97bc2c52…"]),
        ({"onnx_sha256": "b" * 64}, ["bbbbbbbbbbbb…", "4b4a5aff0f92…"]),  # head.onnx
        ({"onnx": "head.fp16.onnx"}, ["has no such graph"]),
    ],
)
def test_an_engine_of_another_model_is_refused(folder, state, changes, parts):
    change(seal(folder), **changes)
    message = refused(folder, state)
    for part in (*parts, f"cstl-edge build {folder}"):
        assert part in message


# Machine


@pytest.mark.parametrize(
    ("built", "sides"),
    [
        ({"version": "10.3.1"}, ["TensorRT 10.3.1".lower(), "tensorrt 10.3.0"]),
        ({"version": "11.4.0.106"}, ["tensorrt 11.4.0.106", "tensorrt 10.3.0"]),
        ({"library": "tensorrt_rtx"}, ["tensorrt_rtx", "here is tensorrt 10.3.0"]),
        ({"sm": 90, "gpu": "H100"}, ["sm_90 (H100)", "sm_87 (Orin, 8 multi"]),
        ({"gpu": "Orin Nano"}, ["sm_87 (Orin Nano)", "sm_87 (Orin, 8 multi"]),
        ({"sm": 89, "gpu": None}, ["sm_89 (any GPU of it)", "sm_87 (Orin, 8 multi"]),
        ({"multiprocessors": 16}, ["sm_87 (Orin, 16 multiprocessors)", "sm_87 (Orin, 8 multi"]),
        ({"board": "NVIDIA Jetson AGX Orin"}, ["NVIDIA Jetson AGX Orin", "NVIDIA Orin Nano"]),
        ({"sm": 89, "compatibility": "same"}, ["sm_89", "sm_87"]),
    ],
)
def test_another_machine_is_refused_with_both_sides(folder, state, built, sides, monkeypatch):
    monkeypatch.setattr(trt_runtime, "board", lambda: "NVIDIA Orin Nano Developer Kit")
    seal(folder, options={"precision": "float32", "workspace": 512}, **built)
    message = refused(folder, state, opened=1)
    for side in sides:
        assert side in message
    assert f"cstl-edge build {folder} --precision float32 --workspace 512" in message


def test_all_differences_are_in_one_message(folder, state):
    seal(folder, version="11.4.0", sm=90, gpu="H100")
    message = refused(folder, state, opened=1)
    assert "11.4.0" in message
    assert "H100" in message


@pytest.mark.parametrize(
    "built",
    [
        {"compatibility": "same", "gpu": "Orin Nano"},
        {"compatibility": "ampere", "sm": 80, "gpu": "A100"},
        {"gpu": None},
    ],
)
def test_an_engine_built_for_more_than_one_gpu_fits(folder, state, built):
    seal(folder, **built)
    load(folder, backend="tensorrt").close()
    assert state.deserialised == 2


def test_a_missing_tensorrt_names_the_remedy(folder, state, monkeypatch):
    seal(folder)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "pip install tensorrt-cu12" in refused(folder, state)


def test_a_missing_tensorrt_on_a_jetson_names_its_remedy(folder, state, monkeypatch, tmp_path):
    seal(folder)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    (tmp_path / "nv_tegra_release").touch()
    monkeypatch.setattr("cstl_edge.runtime.tensorrt.library.JETSON", tmp_path / "nv_tegra_release")
    assert "python3-libnvinfer" in refused(folder, state)


@pytest.mark.parametrize("version", ["8.6.1", "10.2.0.post1"])
def test_a_tensorrt_that_is_too_old_is_refused(folder, state, monkeypatch, version):
    seal(folder, version=version)
    monkeypatch.setitem(sys.modules, "tensorrt", make(state, version))
    assert f"expected TensorRT 10.3 or newer; got {version}" in refused(folder, state)


def test_a_missing_gpu_is_unavailable(folder, state, monkeypatch):
    seal(folder)
    state.device.fault = NO_DEVICE
    with pytest.raises(CudaError):  # `open_buffers` itself turns it into advice (test_cuda)
        load(folder, backend="tensorrt")
    assert state.deserialised == 0


# Plugin


def plugin(library):
    import hashlib

    sha256 = hashlib.sha256(library.read_bytes()).hexdigest()
    return {"name": CREATOR[0], "version": CREATOR[1], "namespace": CREATOR[2], "sha256": sha256}


def test_a_plugin_is_registered_before_the_engine_is_opened(folder, state, library):
    seal(folder, plugin=plugin(library))
    encoder = load(folder, backend="tensorrt")
    assert state.registered == [CREATOR]
    assert "plugin" in encoder.info.provider
    load(folder, backend="tensorrt")  # a second runtime has a registry of its own
    assert state.registered == [CREATOR] * 2
    assert state.deserialised == 4


def test_an_engine_without_the_plugin_does_not_load_it(folder, state):
    seal(folder)
    load(folder, backend="tensorrt")
    assert not state.registered


def test_a_missing_plugin_library_is_refused(folder, state, library, monkeypatch):
    seal(folder, plugin=plugin(library))
    monkeypatch.setattr(trt_runtime, "plugin_library", lambda trt: None)
    message = refused(folder, state, opened=1)
    assert "here is none" in message
    assert "cstl-edge plugin build" in message


def test_another_plugin_library_is_refused(folder, state, library):
    seal(folder, plugin=plugin(library))
    library.write_bytes(b"built anew")
    message = refused(folder, state, opened=1)
    assert "built with the plugin library" in message


def test_a_plugin_library_of_another_tensorrt_is_refused(folder, state, library):
    """TensorRT does not load it, and says only that it did not."""
    seal(folder, plugin=plugin(library))
    state.registry.libraries.clear()
    assert "registers no cstl_edge::CstlPartGather" in refused(folder, state, opened=2)


def test_a_plugin_registered_by_another_library_is_refused(folder, state, library):
    seal(folder, plugin=plugin(library))
    state.registry.creators.add(CREATOR)
    assert "already registered in this process" in refused(folder, state, opened=2)
    assert not state.device.streams
    assert not state.registered


def test_an_engine_that_tensorrt_does_not_open_is_an_error(folder, state):
    """Everything fits and TensorRT says no: an error, not a crash."""
    seal(folder)
    state.refuse_plan = True
    with pytest.raises(ModelError, match="does not open it"):
        load(folder, backend="tensorrt")
    assert not state.device.memory


# auto


def test_auto_opens_engines_that_fit(folder, state, caplog):
    seal(folder)
    caplog.set_level("INFO")
    assert load(folder).info.backend == "tensorrt"
    assert "backend auto: tensorrt, on Orin" in caplog.text


def test_auto_logs_why_engines_do_not_fit(folder, state, caplog):
    seal(folder, sm=90, gpu="H100")
    assert load(folder).info.backend == "onnxruntime"
    assert state.deserialised == 0
    warnings = [r for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "built for sm_90 (H100), this GPU is sm_87 (Orin, 8 multi" in warnings[0].message


def test_auto_without_engines_opens_neither_tensorrt_nor_the_gpu(folder, state, caplog):
    caplog.set_level("INFO")
    assert load(folder).info.backend == "onnxruntime"
    assert "no engines were built" in caplog.text
    assert state.opened == 0


def test_a_requested_backend_is_never_replaced(folder, monkeypatch):
    seal(folder)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendUnavailable):
        load(folder, backend="tensorrt")
