"""Whatever a parser raises is one line of our error; files of others are read within limits."""

import asyncio
import builtins
import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from cstl_edge.errors import ConfigError, DataError, ModelError
from cstl_edge.foreign import load_json, load_npz, parsing, read_bytes, read_npy

UNICODE = {
    UnicodeDecodeError: ("utf-8", b"\xff", 0, 1, "invalid start byte"),
    UnicodeEncodeError: ("ascii", "é", 0, 1, "ordinal not in range"),
    UnicodeTranslateError: ("é", 0, 1, "no"),
}
GROUPS = {"BaseExceptionGroup", "ExceptionGroup"}
CLASSES = [
    kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, BaseException) and name not in GROUPS
]


class PanicException(BaseException):  # what libraries in Rust raise
    pass


def raised(kind):
    return kind(*UNICODE.get(kind, ("a\nfault of many words",)))


@pytest.mark.parametrize(
    "kind", [*(k for k in CLASSES if issubclass(k, Exception)), PanicException]
)
def test_every_exception_becomes_one_line_of_our_error(kind):
    with pytest.raises(ModelError) as err, parsing("x.bin", "a model", ModelError):
        raise raised(kind)
    assert str(err.value).startswith(("x.bin: expected a model; got ", "cannot read x.bin: "))
    assert "\n" not in str(err.value)
    assert isinstance(err.value.__cause__, kind)


@pytest.mark.parametrize(
    "kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]
)
def test_the_end_of_a_run_is_no_fault_of_a_file(kind):
    with pytest.raises(kind), parsing("x.bin", "a model"):
        raise kind


def test_an_error_of_ours_passes_as_it_is():
    with pytest.raises(ConfigError, match=r"^mine$"), parsing("x.bin", "a model"):
        raise ConfigError("mine")


def test_a_pipe_and_a_large_file_are_refused_before_they_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="no regular file"):
        read_bytes(tmp_path / "pipe", 10, "a file")
    with pytest.raises(DataError, match="no regular file"):
        read_npy(tmp_path / "pipe", "an array")
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(DataError, match="at most 10 bytes; got 11"):
        read_bytes(tmp_path / "large", 10, "a file")
    with pytest.raises(DataError, match="cannot read"):
        read_bytes(tmp_path / "none", 10, "a file")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 70 + "]" * 70, "NaN", '{"a": -Infinity}', "{", "9" * 9999]
)
def test_json_that_only_python_reads_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        load_json(text)
    assert load_json('{"a": [1, [2]]}') == {"a": [1, [2]]}


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_arrays_that_inflate_or_take_long_are_refused(method):
    content, array = io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros(2**22, np.uint8))
    with zipfile.ZipFile(content, "w", method) as archive:
        archive.writestr("a.npy", array.getvalue())
    limit = 2**23 if method == zipfile.ZIP_BZIP2 else 2**20
    with pytest.raises(ValueError, match=r"more than 1048576|otherwise than by deflate"):
        load_npz(content.getvalue(), ["a"], limit)


def test_arrays_are_loaded_by_name():
    content = io.BytesIO()
    np.savez_compressed(content, a=np.arange(3), b=np.ones(2))
    assert load_npz(content.getvalue(), ["a"], 1000)["a"].tolist() == [0, 1, 2]
    with pytest.raises(KeyError):
        load_npz(content.getvalue(), ["c"], 1000)


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_mapped(tmp_path, order):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", np.asarray(array, order=order))
    assert np.array_equal(read_npy(tmp_path / "a.npy", "an array"), array)


def npy(header, data=b""):
    text = header.encode("latin1")
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x03\x04" + bytes(200),  # an .npz of this name
        pickle.dumps([1]),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000, 64, 44)}\n"),  # cut off
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}\n", b"123"),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (" + "9" * 30 + ",)}\n"),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}\n"),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (True,)}\n", b"1"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", bytes(8)),
        npy("{'descr': '|V0', 'fortran_order': False, 'shape': (1,)}\n"),
        npy("{'descr': ('|u1', 3), 'shape': None"),  # no end: the tokenizer's error
        npy("(" * 5000),
        npy("{'descr': '\x00', 'fortran_order': 'no', 'shape': 1}\n"),
        b"\x93NUMPY\x09\x00" + bytes(100),
    ],
)
def test_a_damaged_array_is_refused(tmp_path, data):
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.npy"):
        read_npy(tmp_path / "a.npy", "an array")
