"""Files that others wrote: read within limits, and whatever a parser raises becomes our error.

Parsers document no closed list of what damaged or hostile bytes make them raise; `parsing` is the
one place that turns all of it into a line of what was expected and what came.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from cstl_edge.errors import CstlEdgeError, DataError, one_line

if TYPE_CHECKING:
    from cstl_edge.arrays import Array

OBJECT = re.compile(r" ?<[\w.]+ object at 0x\w+>")  # in some messages; differs from run to run
REPLACE = "replace or remove it"
PANIC = "PanicException"  # of a library in Rust: no Exception, and no end of the run either
MAX_PIXELS = 16_000_000  # of an image or a picture: a larger one is refused by its header
MAX_JSON_DEPTH = 64  # of lists and objects in one another


@contextlib.contextmanager
def parsing(
    path: object,
    expected: str,
    error: type[CstlEdgeError] = DataError,
    remedy: str | None = None,
) -> Iterator[None]:
    """Turn whatever the block raises into one line of `error`; errors of ours pass as they are.

    Args:
        path: File, for the message.
        expected: What it should hold, with its article: "a .npy file of silhouettes".
        error: Class of the error.
        remedy: What to do; by default to replace the file, or to look for one that is missing.
    """
    try:
        yield
    except CstlEdgeError:
        raise
    except BaseException as err:
        if isinstance(err, OSError) and err.strerror:  # the system's; others are the parser's
            reason = f"{one_line(err.strerror)} (expected {expected})"
            advice = remedy or ("check its name" if err.errno == errno.ENOENT else REPLACE)
            raise error(f"cannot read {one_line(path)}: {reason}", remedy=advice) from err
        if not isinstance(err, Exception) and type(err).__name__ != PANIC:
            raise  # Ctrl-C, the end of the process or of a task: no fault of a file
        message = f"{one_line(path)}: expected {expected}; got {fault(err)}"
        raise error(message, remedy=remedy or REPLACE) from err


def fault(err: BaseException) -> str:
    """Return what is wrong with a file in one line, by the exception of its parser."""
    if isinstance(err, RecursionError):
        return "values nested too deeply"
    if isinstance(err, MemoryError):
        return "something that asks for more memory than there may be"
    text = one_line(OBJECT.sub("", str(err)), 160)
    return (
        text if " " in text else f"something else ({' '.join([type(err).__name__, text]).strip()})"
    )


def read_bytes(
    path: str | os.PathLike[str],
    max_bytes: int,
    expected: str,
    error: type[CstlEdgeError] = DataError,
) -> bytes:
    """Read a regular file of at most `max_bytes`; never a pipe, which may wait for ever.

    Args:
        path: File; a link to one is followed.
        max_bytes: Limit, looked at before anything is read.
        expected: What it should hold, with its article.
        error: Class of the error.
    """
    name = one_line(path)
    with parsing(path, expected, error), open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise error(f"{name}: expected {expected} of at most {max_bytes} bytes; got {size}")
        return file.read(size)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read, within `parsing`; ValueError for a pipe, which may wait for ever."""
    file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise ValueError("something that is no regular file")


def load_json(text: str | bytes) -> Any:
    """Return JSON from outside; ValueError for what Python alone takes (NaN) or cannot nest."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name}, which is no number")

    try:
        value = json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("values nested too deeply") from None
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        groups = (
            x.values() if isinstance(x, dict) else x for x in level if isinstance(x, dict | list)
        )
        level = [item for group in groups for item in group]
        if not level:
            return value
    raise ValueError("values nested too deeply")


def load_npz(data: bytes, names: Iterable[str], max_bytes: int) -> dict[str, Array]:
    """Return arrays of an .npz by name, within `parsing`; no objects, no pickles.

    Args:
        data: Content of the file.
        names: Arrays to read; KeyError where one is missing.
        max_bytes: Of all members unpacked, by their headers, which zipfile never exceeds.
    """
    import numpy as np

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > max_bytes:
        raise ValueError(f"{size} bytes of arrays, more than {max_bytes}")
    if any(m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in members):
        raise ValueError("members packed otherwise than by deflate")  # bzip2 takes minutes
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return {name: stored[name] for name in names}


def read_npy(path: str | os.PathLike[str], expected: str, remedy: str = "make it again") -> Array:
    """Map the array of a .npy file, whose header must fit its size; no objects, no pickles.

    Args:
        path: File; .npz and pickles, which numpy would open too, are refused.
        expected: What it should hold, with its article.
        remedy: What to do otherwise.

    Raises:
        DataError: names the file and the fault.
    """
    import numpy as np

    form: Any = np.lib.format  # numpy does not type it
    with parsing(path, expected, remedy=remedy):
        with open_regular(path) as file:
            file_size = os.fstat(file.fileno()).st_size
            version = form.read_magic(file)
            read = {(1, 0): form.read_array_header_1_0, (2, 0): form.read_array_header_2_0}
            if version not in read:
                raise ValueError(f"a .npy file of version {version}")
            shape, column_order, dtype = read[version](file)
            offset = file.tell()
        if dtype.hasobject or dtype.itemsize < 1:
            raise ValueError(f"an array of {one_line(dtype, 60)}")
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"the shape {one_line(shape, 60)}")
        size = offset + math.prod(shape) * dtype.itemsize
        if size != file_size:
            raise ValueError(f"{file_size} bytes where its header needs {size}")
        if math.prod(shape) == 0:
            return np.zeros(shape, dtype)
        order: Any = "F" if column_order else "C"
        return np.memmap(path, dtype, "r", offset, shape, order)
