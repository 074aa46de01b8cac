"""The results of `cstl-edge bench --jetson` in one anonymous file that can be sent to us.

    board = detect_board()              # BackendUnavailable where this is no Jetson
    for line in advice(folder):         # what is missing, with the command that makes it
        progress(line)
    ...                                 # every scenario, its rows appended to a file
    path = pack_bundle(file, board, doctor.report())  # cstl-edge-bench-<board>-<utc>.zip
    rows = read_bundle(path)

Nothing of the board is changed: its power mode and clocks are read, there is no option that sets
them. The file holds no names, addresses, paths or serial numbers (`anonymize`). None of this has
run on a board: it is tested on trees of files laid out like theirs.

A file that comes back is not trusted. Nothing is unpacked beside anything: members are read into
memory, each up to a limit whatever its header claims, and only those that are expected.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import time
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cstl_edge.bench.jetson.anonymize import local_names, scrub
from cstl_edge.bench.record import Row, parse_rows, read_rows, row_json
from cstl_edge.errors import BackendUnavailable, DataError, ModelError, one_line
from cstl_edge.foreign import parsing, read_bytes
from cstl_edge.measure import jetson
from cstl_edge.measure.linux import SysfsTree
from cstl_edge.output import storing, write_file

ROOT = Path("/")
RESULTS, BOARD, DOCTOR = "results.jsonl", "board.json", "doctor.json"
TEGRASTATS, README = "tegrastats.txt", "README.txt"
MEMBERS = {RESULTS, BOARD, DOCTOR, TEGRASTATS, README}
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MAX_BUNDLE_BYTES = 64 * 2**20
MAX_RESULTS_BYTES = 256 * 2**20
OWN_FIELDS = {"run", "scenario", "contender", "samples", "dropped", "values", "intervals", "check"}
"""Fields of a row whose words are all ours."""


@dataclass(frozen=True)
class JetsonBoard:
    """A Jetson, as its system describes it."""

    model: str  # as in the device tree, e.g. `NVIDIA Jetson Orin Nano Developer Kit`
    l4t: str | None  # release of Jetson Linux, e.g. `36.4.3`; None where it is not known

    @property
    def short(self) -> str:
        """Return a word for file names.

        >>> JetsonBoard("NVIDIA Jetson AGX Orin Developer Kit", "36.4.3").short
        'agx-orin'
        """
        plain = {"nvidia", "jetson", "developer", "kit", "engineering", "reference", "super"}
        words = re.findall(r"[a-z0-9]+", self.model.lower())
        return "-".join(word for word in words if word not in plain)[:40] or "board"


def detect_board(root: Path = ROOT) -> JetsonBoard:
    """Return which Jetson this is, by its file system (BackendUnavailable where it is none)."""
    model, l4t = jetson.board(SysfsTree(root)) or "", jetson.l4t(SysfsTree(root))
    if "jetson" not in model.lower() and l4t is None:
        raise BackendUnavailable(
            "this is no Jetson: expected its name in /proc/device-tree/model or a release in "
            f"/etc/nv_tegra_release; got {one_line(model) or 'neither'}. Leave out --jetson"
        )
    return JetsonBoard(model or "unknown", l4t)


def advice(folder: Path, root: Path = ROOT) -> list[str]:
    """Return a line for all that the figures of an exported model would lack, with its remedy."""
    from cstl_edge.bench.power.rails import HWMON, find_channels

    engines = _engines(folder)
    lines = [engines] if engines else []
    if not find_channels(root):
        lines.append(
            f"no power rails: expected an INA3221 or INA238 with labels in /{HWMON}; in a "
            "container, mount /sys. Times will have no joules beside them"
        )
    return lines


def pack_bundle(
    results: Path, board: JetsonBoard, doctor: Mapping[str, Any], root: Path = ROOT
) -> Path:
    """Pack a file of results with a description of the board, beside it; return the path.

    Args:
        results: File of rows.
        board: Board that ran them.
        doctor: Report of `doctor.report`.
        root: Root of the file system.

    Raises:
        DataError: The file has no rows.
        StorageError: The disk refuses.
    """
    from cstl_edge.bench.power.tegrastats import excerpt

    names = local_names() | local_names(root)
    lines = [_line(row, names) for row in read_rows(results)]
    if not lines:
        raise DataError(f"expected results in {one_line(results)}; got none: run the scenarios")
    tree = SysfsTree(root)
    settings = {
        "power_mode": jetson.power_mode(tree),
        "jetson_clocks": jetson.jetson_clocks(tree),
    }
    texts = {
        README: _readme(board, len(lines)),
        RESULTS: "\n".join(lines) + "\n",
        BOARD: json.dumps(scrub(asdict(board) | settings, names), indent=1),
        DOCTOR: json.dumps(scrub(doctor, names), indent=1),
        TEGRASTATS: "\n".join(scrub(excerpt(), names)),
    }
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = results.with_name(f"cstl-edge-bench-{board.short}-{stamp}.zip")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in texts.items():
            entry = zipfile.ZipInfo(name, time.gmtime()[:6])
            archive.writestr(entry, text, zipfile.ZIP_DEFLATED)
    with storing(target, f"The results are in {one_line(results)}"):
        return write_file(target, content.getvalue())


def read_bundle(path: str | Path) -> list[Row]:
    """Return the rows of a bundle (DataError); its other members are for people to read."""
    where, form = one_line(path), "a bundle of `cstl-edge bench --jetson`"
    content = io.BytesIO(read_bytes(path, MAX_BUNDLE_BYTES, form))
    with parsing(path, form), zipfile.ZipFile(content) as archive:
        names = archive.namelist()
        if not set(names) <= MEMBERS or len(set(names)) < len(names) or RESULTS not in names:
            expected = ", ".join(sorted(MEMBERS))
            raise DataError(f"{where}: expected {expected}; got {one_line(', '.join(names))}")
        kind = archive.getinfo(RESULTS).compress_type
        if kind not in COMPRESSIONS:  # bzip2 makes 45 MB/s of a few bytes
            raise ValueError(f"members packed by method {kind}, expected none or deflate")
        with archive.open(RESULTS) as file:
            data = file.read(MAX_RESULTS_BYTES + 1)  # never more: a header may be false
    if len(data) > MAX_RESULTS_BYTES:
        raise DataError(f"{where}: expected at most {MAX_RESULTS_BYTES} bytes of {RESULTS}")
    try:
        return list(parse_rows(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"), RESULTS))
    except DataError as err:
        raise DataError(f"{where}: {err}") from err


def _line(row: Row, names: set[str]) -> str:
    """Return a row as an anonymous JSON line; fields whose words are ours are left as they are.

    Somebody may be called like a stage or a scenario.
    """
    plain = row_json(row)
    clean = scrub(plain, names)
    clean |= {key: value for key, value in plain.items() if key in OWN_FIELDS}
    if row.case.graph is not None:
        clean["case"]["graph"] = row.case.graph
    return json.dumps(clean)


def _engines(folder: Path) -> str | None:
    """Return the problem of an exported model's engines, or None."""
    from cstl_edge.runtime import load
    from cstl_edge.runtime.tensorrt.record import ENGINES, TENSORRT

    if not (folder / ENGINES / TENSORRT).is_dir():
        command = shlex.join(["cstl-edge", "build", str(folder)])
        return f"no TensorRT engines; this makes them, in minutes: {command}"
    try:
        load(folder, "tensorrt").close()
    except ModelError as err:
        return f"the TensorRT engines are not used: {err}"
    return None


def _readme(board: JetsonBoard, rows: int) -> str:
    from cstl_edge import __version__

    return (
        f"Results of cstl-edge {__version__} on a {board.model} (L4T {board.l4t or 'not told'}).\n"
        f"\n"
        f"{RESULTS}     {rows} rows, raw samples, one JSON object per line\n"
        f"{BOARD}        what the board is, its power mode, whether its clocks were held\n"
        f"{DOCTOR}       versions and what the package found on it\n"
        f"{TEGRASTATS}    some lines of NVIDIA's own tool, where it is installed\n"
        f"\n"
        f"Names of user and machine, paths, addresses and serial numbers were taken out; look\n"
        f"through it before you send it. As a page: cstl-edge bench report THIS.zip -o page.html\n"
    )
