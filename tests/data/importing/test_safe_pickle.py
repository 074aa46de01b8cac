"""Reader of pickled silhouettes: numpy's arrays are read, all else is refused before it acts."""

import contextlib
import pickle
import pickletools
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cstl_edge.data.importing.safe_pickle import HostileFile, read_pickle
from cstl_edge.errors import DataError

WALK = np.random.default_rng(0).integers(0, 256, (7, 64, 64), np.uint8)


class Evil:
    """Runs a command when it is unpickled in the ordinary way."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


def stored(tmp_path, content):
    path = tmp_path / "000.pkl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_pickled_by_numpy_are_read(tmp_path, protocol, order):
    array = np.asarray(WALK, order=order)
    array_read = read_pickle(stored(tmp_path, pickle.dumps(array, protocol=protocol)))
    assert array_read.dtype == np.uint8
    assert (array_read == WALK).all()


def test_module_names_of_numpy_1_are_accepted(tmp_path):
    content = pickle.dumps(WALK, protocol=3).replace(b"numpy._core", b"numpy.core")
    assert (read_pickle(stored(tmp_path, content)) == WALK).all()


def test_booleans_become_0_and_255(tmp_path):
    array_read = read_pickle(stored(tmp_path, pickle.dumps(WALK > 99)))
    assert (array_read == np.where(WALK > 99, 255, 0)).all()


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_code_is_never_run(tmp_path, protocol):
    marker = tmp_path / "marker"
    content = pickle.dumps(Evil(f"touch {marker}"), protocol=protocol)
    with pytest.raises(HostileFile, match=r"000\.pkl"):
        read_pickle(stored(tmp_path, content))
    assert not marker.exists()
    pickle.loads(content)
    assert marker.exists(), "the test must be able to fail"


@pytest.mark.parametrize(
    "name",
    ["builtins eval", "numpy load", "numpy._core.multiarray scalar", "_codecs decode",
     "numpy.core.numeric _frombuffer.__globals__"],
)  # fmt: skip
def test_no_other_name_is_looked_up(tmp_path, name):
    lookup = f"c{name}\n".replace(" ", "\n").encode()
    with pytest.raises(HostileFile, match="names"):
        read_pickle(stored(tmp_path, b"\x80\x02" + lookup + b"X\x01\x00\x00\x00a\x85R."))


def refuse_cheaply(path, error, message, most_bytes):
    tracemalloc.start()
    with pytest.raises(error, match=message):
        read_pickle(path)
    assert tracemalloc.get_traced_memory()[1] < most_bytes
    tracemalloc.stop()


def test_a_large_declared_shape_allocates_no_memory(tmp_path):
    content = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"J\x00\x00\x00\x40J\x00\x04\x00\x00\x86U\x01b\x87R."
    ).replace(b"U\x01b", b"X\x01\x00\x00\x00b")
    assert len(content) < 110
    refuse_cheaply(stored(tmp_path, content), HostileFile, "memory for an array of shape", 2**20)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",  # BINBYTES8
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.",  # BYTEARRAY8
        b"\x80\x04\x8e" + struct.pack("<Q", 2**63) + b"abc.",
        b"\x80\x04B" + struct.pack("<I", 2**32 - 1) + b"abc.",  # BINBYTES
        b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"abc.",  # BINUNICODE
        b"\x80\x02Nr" + struct.pack("<I", 2**31) + b".",  # LONG_BINPUT
        b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",  # FRAME
        b"\x80\x02" + b"N" * 100_000 + b".",
    ],
)
def test_false_lengths_allocate_no_memory(tmp_path, content):
    refuse_cheaply(stored(tmp_path, content), DataError, r"000\.pkl", 2**21)


@pytest.mark.parametrize(
    "thing",
    [
        np.array([{}], object),
        WALK.astype(np.float32),
        WALK[0],
        np.zeros((0, 64, 64), np.uint8),
        np.zeros((1, 4001, 4000), np.uint8),
        np.zeros(3, [("a", "u1")]),
        None,
        b"abc",
    ],
    ids=["objects", "floats", "flat", "empty", "huge", "fields", "none", "bytes"],
)
def test_other_objects_are_refused(tmp_path, thing):
    with pytest.raises(DataError, match=r"000\.pkl"):
        read_pickle(stored(tmp_path, pickle.dumps(thing)))


def test_a_shape_that_its_data_does_not_fill_is_refused(tmp_path):
    content = pickle.dumps(np.zeros((7, 64, 64), np.uint8), protocol=4)
    forged = content.replace(b"K\x07K\x40K\x40\x87", b"K\x09K\x40K\x40\x87")
    assert forged != content
    with pytest.raises(DataError, match="does not fit"):
        read_pickle(stored(tmp_path, forged))


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_a_truncated_pickle_is_an_error(tmp_path, share):
    content = pickle.dumps(WALK)
    with pytest.raises(DataError, match=r"000\.pkl"):
        read_pickle(stored(tmp_path, content[: int(len(content) * share)]))


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_damaged_pickle_gives_an_array_or_a_data_error(tmp_path_factory, data):
    small = bytearray(pickle.dumps(WALK[:1, :4, :4], protocol=data.draw(st.integers(2, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        small[data.draw(st.integers(0, len(small) - 1))] = data.draw(st.integers(0, 255))
    path = stored(tmp_path_factory.getbasetemp(), bytes(small))
    with contextlib.suppress(DataError):  # anything else fails
        assert read_pickle(path).dtype == np.uint8


def test_an_ordinary_array_is_far_from_the_limit_of_instructions():
    assert sum(1 for _ in pickletools.genops(pickle.dumps(WALK, protocol=2))) < 100
