"""Safe reader of silhouette arrays from untrusted pickles, in the form that OpenGait writes.

A pickle is a program. Before it runs, its instructions are checked: only those that a numpy array
needs (protocols 2 to 5), a few hundred at most, every length within the file. Then it runs with
stand-ins in the place of numpy's constructors: these keep their arguments and allocate nothing, so
that no code of numpy sees a forged shape, type or state.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.arrays import Bytes
from cstl_edge.errors import DataError, one_line
from cstl_edge.foreign import MAX_PIXELS, parsing, read_bytes

EXPECTED = "a pickle of one uint8 array [s, h, w], protocol 2 to 5"
MAX_PICKLE_BYTES = 256 * 2**20  # 16,000 frames of 128x128
MAX_INSTRUCTIONS = 500  # an array takes about 50
MAX_MEMO = 10_000  # a higher index would have the unpickler allocate a table of that size

INSTRUCTIONS = frozenset([
    "PROTO", "FRAME", "STOP", "MARK", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "MEMOIZE",
    "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE", "BININT",
    "BININT1", "BININT2", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "SHORT_BINUNICODE",
    "BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
])  # fmt: skip
MAKE_OBJECTS = frozenset(
    ["INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"]
)
PIXEL_TYPES = {"u1": 1, "|u1": 1, "b1": 255, "|b1": 255}
"""Accepted types of an array, and the factor that scales its numbers to 0..255."""


class HostileFile(DataError):
    """A file made to run code or to exhaust memory; nothing that came with it is trusted."""


def read_pickle(path: str | Path) -> Bytes:
    """Return the array of a pickle, uint8 [s, H, W], booleans as 0 and 255.

    Raises HostileFile when it holds anything but one array, DataError when it is damaged or the
    array is no sequence of silhouettes; both name the file.
    """
    name = one_line(path)
    data = read_bytes(path, MAX_PICKLE_BYTES, EXPECTED)
    with parsing(path, EXPECTED):
        try:
            _inspect(data)
            return _pixels(_Unpickler(io.BytesIO(data)).load())
        except _Hostile as err:
            raise HostileFile(f"{name} {err}; trust nothing that came with it") from err


class _Hostile(Exception):
    """The fault of a pickle, without its file name."""


def _inspect(data: bytes) -> None:
    """Read the instructions of a pickle without running them."""
    for count, (code, argument, _) in enumerate(pickletools.genops(data)):
        if code.name == "GLOBAL":
            _check_name(*str(argument).split(" ", 1))
        if code.name in MAKE_OBJECTS:
            raise _Hostile(f"makes objects ({code.name}), which no array of pixels needs")
        if code.name in ("BINPUT", "LONG_BINPUT") and int(argument or 0) > MAX_MEMO:
            raise _Hostile(f"asks for a table of {argument} entries")
        if count >= MAX_INSTRUCTIONS:
            raise _Hostile(f"holds more than {MAX_INSTRUCTIONS} instructions, an array needs 50")
        if code.name not in INSTRUCTIONS:
            raise ValueError(f"the instruction {code.name} belongs to no array")


def _check_name(module: str, name: str = "") -> None:
    if (module, name) not in STAND_INS:
        raise _Hostile(f"names {one_line(f'{module}.{name}', 80)}, which is no array of pixels")


class _Dtype:
    """Stand-in of numpy.dtype: the type of an array as a pickle describes it."""

    def __init__(self, code: str, *_: bool) -> None:
        self.code = code

    def __setstate__(self, _: object) -> None:
        """Ignore byte order, fields and flags: one byte has none of them."""


class _Array:
    """Stand-in of an array: its state as a pickle describes it."""

    def __init__(self, state: tuple[Any, ...] | None = None) -> None:
        self.state = state

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


class _ClassOfArrays:
    """Stand-in of numpy.ndarray, which is named and never called."""


def _reconstruct(_: object, shape: object, __: object) -> _Array:
    # numpy's own allocates this shape at once: 92 bytes of pickle can ask for a terabyte.
    if shape != (0,):
        raise _Hostile(f"asks for memory for an array of shape {one_line(shape, 60)}")
    return _Array()


def _from_buffer(data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    return _Array((1, shape, dtype, order == "F", data))


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"expected latin1, got {one_line(encoding, 40)}")
    return text.encode("latin1")  # how protocol 2 stores bytes


STAND_INS = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    ("numpy", "ndarray"): _ClassOfArrays,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        _check_name(module, name)
        return STAND_INS[module, name]


def _pixels(result: object) -> Bytes:
    """Return the array, uint8 [s, H, W], that the result of a pickle describes."""
    if not isinstance(result, _Array) or result.state is None:
        raise ValueError("it holds no array")
    _, shape, dtype, column_order, data = result.state
    if not isinstance(dtype, _Dtype) or dtype.code not in PIXEL_TYPES:
        code = dtype.code if isinstance(dtype, _Dtype) else dtype
        raise ValueError(f"the array is of type {one_line(code, 40)}")
    if not isinstance(shape, tuple) or len(shape) != 3 or not all(type(n) is int for n in shape):
        raise ValueError(f"the array has the shape {one_line(shape, 60)}")
    if shape[1] * shape[2] > MAX_PIXELS:
        raise ValueError(f"frames of {shape[2]}x{shape[1]} have more than {MAX_PIXELS:,} pixels")
    if not isinstance(data, bytes | bytearray) or min(shape) < 1 or math.prod(shape) != len(data):
        raise ValueError(f"the shape {one_line(shape, 60)} does not fit its data")
    array = np.frombuffer(data, np.uint8).reshape(shape, order="F" if column_order else "C")
    return array if PIXEL_TYPES[dtype.code] == 1 else (array != 0).astype(np.uint8) * np.uint8(255)
