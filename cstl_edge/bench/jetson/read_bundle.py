"""Read a bundle that the owner of a Jetson sent (`jetson.bundle`). It is not trusted.

Nothing is unpacked beside anything: members are read into memory, each up to a limit whatever its
header claims, and only those that are expected.
"""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from pathlib import Path

from cstl_edge.bench.record import Row, read_rows
from cstl_edge.errors import DataError, one_line

RESULTS, BOARD, DOCTOR = "results.jsonl", "board.json", "doctor.json"
TEGRASTATS, README = "tegrastats.txt", "README.txt"
MAX_BUNDLE_BYTES = 64 * 2**20
MAX_RESULTS_BYTES = 256 * 2**20
MEMBERS = {RESULTS, BOARD, DOCTOR, TEGRASTATS, README}


def read_bundle(path: str | Path) -> list[Row]:
    """Return the rows of a bundle (DataError); its other members are for people to read."""
    where = one_line(path)
    data = _results(Path(path), where)
    with tempfile.TemporaryDirectory() as folder:  # rows are read from a file; the name is ours
        results = Path(folder) / RESULTS
        results.write_bytes(data)
        try:
            return list(read_rows(results))
        except DataError as err:
            raise DataError(f"{where}: {str(err).replace(str(results), RESULTS)}") from err


def _results(path: Path, where: str) -> bytes:
    """Return the bytes of the results, never more than the limit: a header may be false."""
    try:
        if path.stat().st_size > MAX_BUNDLE_BYTES:
            raise DataError(
                f"{where}: expected at most {MAX_BUNDLE_BYTES} bytes; got {path.stat().st_size}"
            )
        with zipfile.ZipFile(path) as archive:
            _check(where, archive.namelist())
            with archive.open(RESULTS) as file:
                data = file.read(MAX_RESULTS_BYTES + 1)
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, ValueError) as err:
        raise DataError(
            f"{where}: expected a bundle of `cstl-edge bench --jetson`: {one_line(err)}"
        ) from err
    if len(data) > MAX_RESULTS_BYTES:
        raise DataError(f"{where}: expected at most {MAX_RESULTS_BYTES} bytes of {RESULTS}")
    return data


def _check(where: str, names: list[str]) -> None:
    """Refuse names that are not ours, or twice the same, and a bundle without results."""
    if not set(names) <= MEMBERS or len(set(names)) < len(names) or RESULTS not in names:
        expected = ", ".join(sorted(MEMBERS))
        raise DataError(f"{where}: expected {expected}; got {one_line(', '.join(names))}")
