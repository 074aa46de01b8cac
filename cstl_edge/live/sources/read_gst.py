"""Reader of GStreamer pipelines through the C library, for the reading child process.

A pipeline with a password in it then stands on no command line, and every picture comes with its
own size. Of GStreamer only libgstreamer and libgstapp are needed, which gstreamer1.0-plugins-base
brings; cv2's wheels have none of it.
"""

from __future__ import annotations

import ctypes
import time
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

from cstl_edge.live.sources.child_protocol import (
    End,
    Failure,
    Hello,
    PictureHead,
    ReadRequest,
    SourceFailure,
    send,
)

TAIL = (
    "videoconvert ! video/x-raw,format=BGR ! "
    "appsink name=cstl_edge_frames sync=false max-buffers=4 drop=false"
)
PLAYING, MAP_READ = 4, 1
ERROR = 1 << 1  # GstMessageType
TICK_NS = 100_000_000  # between two looks for errors
ROW_ALIGNMENT = 4  # bytes: GStreamer pads rows


class GError(ctypes.Structure):
    """An error of GLib."""

    _fields_ = (("domain", c_uint), ("code", c_int), ("message", c_char_p))


class GstMapInfo(ctypes.Structure):
    """The bytes of a buffer."""

    _fields_ = (
        ("memory", c_void_p),
        ("flags", c_int),
        ("data", c_void_p),
        ("size", c_size_t),
        ("maxsize", c_size_t),
        ("user_data", c_void_p * 4),
        ("reserved", c_void_p * 4),
    )


# name: (result, arguments)
FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "gst_init": (None, (c_void_p, c_void_p)),
    "gst_parse_launch": (c_void_p, (c_char_p, POINTER(POINTER(GError)))),
    "gst_bin_get_by_name": (c_void_p, (c_void_p, c_char_p)),
    "gst_element_set_state": (c_int, (c_void_p, c_int)),
    "gst_element_get_bus": (c_void_p, (c_void_p,)),
    "gst_bus_timed_pop_filtered": (c_void_p, (c_void_p, c_uint64, c_int)),
    "gst_message_parse_error": (None, (c_void_p, POINTER(POINTER(GError)), c_void_p)),
    "gst_sample_get_caps": (c_void_p, (c_void_p,)),
    "gst_sample_get_buffer": (c_void_p, (c_void_p,)),
    "gst_caps_get_structure": (c_void_p, (c_void_p, c_uint)),
    "gst_structure_get_int": (c_int, (c_void_p, c_char_p, POINTER(c_int))),
    "gst_structure_get_fraction": (
        c_int,
        (c_void_p, c_char_p, POINTER(c_int), POINTER(c_int)),
    ),
    "gst_buffer_map": (c_int, (c_void_p, POINTER(GstMapInfo), c_int)),
    "gst_buffer_unmap": (None, (c_void_p, POINTER(GstMapInfo))),
    "gst_mini_object_unref": (None, (c_void_p,)),
}
APP_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "gst_app_sink_try_pull_sample": (c_void_p, (c_void_p, c_uint64)),
    "gst_app_sink_is_eos": (c_int, (c_void_p,)),
}


def load_gstreamer() -> Any:
    """Return an object with the functions of GStreamer; raises OSError where it is missing."""
    gst = type("GStreamer", (), {})()
    libraries = {"libgstreamer-1.0.so.0": FUNCTIONS, "libgstapp-1.0.so.0": APP_FUNCTIONS}
    for name, functions in libraries.items():
        library = ctypes.CDLL(name)
        for function, (result, arguments) in functions.items():
            call = getattr(library, function)
            call.restype, call.argtypes = result, arguments
            setattr(gst, function, call)
    return gst


def read(request: ReadRequest, pipe: int) -> None:
    """Send the pictures of a pipeline; raises SourceFailure."""
    gst = load_gstreamer()
    gst.gst_init(None, None)
    error = POINTER(GError)()
    text = f"{request.pipeline} ! {TAIL}".encode()
    pipeline = gst.gst_parse_launch(text, byref(error))
    if error or not pipeline:
        raise SourceFailure(Failure("unavailable", f"the pipeline is refused: {_text(error)}"))
    sink = gst.gst_bin_get_by_name(pipeline, b"cstl_edge_frames")
    gst.gst_element_set_state(pipeline, PLAYING)
    index = 0
    while True:
        sample = gst.gst_app_sink_try_pull_sample(sink, TICK_NS)
        if not sample:
            _raise_error(gst, pipeline)
            if gst.gst_app_sink_is_eos(sink):
                break
            continue
        try:
            _send_sample(gst, sample, pipe, index)
        finally:
            gst.gst_mini_object_unref(sample)
        index += 1
    if request.endless:
        raise SourceFailure(Failure("unavailable", "the pipeline ended"))
    if index == 0:
        send(pipe, Hello())
    send(pipe, End(index))


def _send_sample(gst: Any, sample: int, pipe: int, index: int) -> None:
    came_s = time.monotonic()
    caps = gst.gst_caps_get_structure(gst.gst_sample_get_caps(sample), 0)
    width, height, rate, base = c_int(), c_int(), c_int(), c_int(1)
    gst.gst_structure_get_int(caps, b"width", byref(width))
    gst.gst_structure_get_int(caps, b"height", byref(height))
    gst.gst_structure_get_fraction(caps, b"framerate", byref(rate), byref(base))
    if index == 0:
        send(pipe, Hello(rate.value / max(1, base.value)))
    buffer, info = gst.gst_sample_get_buffer(sample), GstMapInfo()
    row_bytes = -(-3 * width.value // ROW_ALIGNMENT) * ROW_ALIGNMENT
    if not gst.gst_buffer_map(buffer, byref(info), MAP_READ):
        raise SourceFailure(Failure("unavailable", "a picture of the pipeline cannot be read"))
    try:
        if info.size < row_bytes * height.value:
            raise SourceFailure(Failure("unavailable", "a picture of the pipeline is cut off"))
        rows = (ctypes.c_ubyte * (row_bytes * height.value)).from_address(info.data)
        head = PictureHead(index, came_s, height.value, width.value, row_bytes)
        send(pipe, head, memoryview(rows).cast("B"))
    finally:
        gst.gst_buffer_unmap(buffer, byref(info))


def _raise_error(gst: Any, pipeline: int) -> None:
    """Raise SourceFailure when the pipeline has reported an error."""
    bus = gst.gst_element_get_bus(pipeline)
    message = gst.gst_bus_timed_pop_filtered(bus, 0, ERROR)
    if message:
        error = POINTER(GError)()
        gst.gst_message_parse_error(message, byref(error), None)
        raise SourceFailure(Failure("unavailable", f"GStreamer: {_text(error)}"))


def _text(error: Any) -> str:
    return error.contents.message.decode(errors="replace") if error else "no reason given"
