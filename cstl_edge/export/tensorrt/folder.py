"""Write a folder of engines, whole or not at all: a reader finds the old ones or the new ones."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from cstl_edge.errors import ExportError, one_line
from cstl_edge.export.folder import swap_in
from cstl_edge.runtime.tensorrt.record import SUFFIX, EngineRecord


def write_engines(
    folder: Path, plans: Mapping[str, bytes], records: Mapping[str, EngineRecord]
) -> None:
    """Put plans and records into `folder`, replacing earlier engines there.

    All is written beside first and renamed at the end. What a build left that was killed in between
    is never read, and swept by the next one.

    Args:
        folder: of the engines of one target.
        plans: serialized engines by graph.
        records: their records by graph.

    Raises:
        ExportError: the disk refuses.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        part.mkdir(mode=0o755)
    except OSError as err:
        raise ExportError(f"cannot write {one_line(folder)}: {one_line(err)}") from err
    try:
        for graph, plan in plans.items():
            _write(part / f"{graph}{SUFFIX}", plan)
            record = json.dumps(records[graph].model_dump(), indent=1, ensure_ascii=False)
            _write(part / f"{graph}{SUFFIX}.json", (record + "\n").encode())
        swap_in(part, folder)
    except OSError as err:
        raise ExportError(f"cannot write {one_line(folder)}: {one_line(err)}") from err
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what builds left whose processes are gone; put back what one had set aside."""
    for leftover in folder.parent.glob(f".{folder.name}.*"):
        match = re.fullmatch(rf"\.{re.escape(folder.name)}\.(\d+)\.(part|old)", leftover.name)
        if match is None or _alive(int(match[1])):
            continue
        if match[2] == "old" and not folder.exists():
            leftover.rename(folder)
        else:
            shutil.rmtree(leftover)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
