"""Write an exported folder, whole or not at all, and its manifest (read by `runtime.manifest`)."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from cstl_edge.errors import ExportError, ModelError, one_line
from cstl_edge.output import storing, write_file
from cstl_edge.runtime import matching_file
from cstl_edge.runtime.manifest import NAME, Manifest, Matching, read_manifest

PACKAGES = ("torch", "onnx", "onnxruntime", "numpy")


def write_folder(
    folder: Path, graphs: Mapping[str, bytes], manifest: Manifest, matching: bytes | None = None
) -> None:
    """Put graphs by file name and their manifest into `folder`, replacing an earlier export there.

    Raises ExportError when the folder holds something else, StorageError when the disk refuses.

    Args:
        folder: New folder, or that of an earlier export.
        graphs: Content of each ONNX file by name.
        manifest: Manifest of these files.
        matching: Content of `matching.npz`, where the manifest names one.
    """
    refuse_foreign(folder)
    files = {**graphs, NAME: json_bytes(manifest)}
    write_files(folder, files if matching is None else {**files, matching_file.NAME: matching})


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Let `folder` hold these files by name and no others; StorageError when the disk refuses.

    All is written beside first and renamed at the end, so a reader finds the old files or the new
    ones. What a process left that was killed in between is never read, and swept by the next one.
    """
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        with storing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            part.mkdir(mode=0o755)
            for name, data in files.items():
                _write(part / name, data)
            _swap_in(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def refuse_foreign(folder: Path) -> None:
    """Raise ExportError when `folder` exists and is neither empty nor an earlier export."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise ExportError(f"expected a new folder or an earlier export; got {one_line(folder)}")
    names = {entry.name for entry in folder.iterdir()}
    ours = (NAME, matching_file.NAME, "engines")  # engines of an earlier export go with it
    foreign = sorted(name for name in names if name not in ours and not name.endswith(".onnx"))
    if names and (NAME not in names or foreign):
        shown = ", ".join(foreign or sorted(names))
        raise ExportError(
            f"expected a new folder or an earlier export; {one_line(folder)} holds "
            f"{one_line(shown)}. Choose another folder"
        )


def attach(
    folder: str | Path,
    *,
    impostors: Mapping[str, Any] | None = None,
    confidence: Mapping[str, Any] | None = None,
    matching: tuple[Matching, bytes | None] | None = None,
    card: Mapping[str, Any] | None = None,
) -> Manifest:
    """Add an evaluation's results to the manifest of an exported folder; the graphs stay.

    Raises ModelError when the folder or the table is refused, StorageError when the disk refuses.

    Args:
        folder: Exported model.
        impostors: Distances of strangers, {"sizes", "fpir", "threshold", "data"}.
        confidence: Curve of `gallery.confidence`.
        matching: Record of the distance that both are of, and the content of its file.
        card: Description of the model, its training and its uses; anything that JSON holds.
    """
    target = Path(folder)
    entries = {"impostors": impostors, "confidence": confidence, "card": card}
    if impostors is not None:
        _check_impostors(impostors)
    manifest = read_manifest(target)
    changed: dict[str, Any] = {
        key: dict(value) for key, value in entries.items() if value is not None
    }
    if matching is not None:
        record, statistics = matching
        changed |= {"matching": record.model_dump(), "format": record.format}
        if statistics is not None:
            write_file(target / matching_file.NAME, statistics)
    manifest = Manifest.model_validate({**manifest.model_dump(), **changed})
    write_file(target / NAME, json_bytes(manifest))
    return manifest


def sha256(data: bytes) -> str:
    """Return the sha256 of a file's content."""
    return hashlib.sha256(data).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of this package and of those that an export depends on."""
    from cstl_edge import __version__

    ours = {"cstl_edge": __version__, "python": platform.python_version()}
    return ours | {name: metadata.version(name) for name in PACKAGES}


def _check_impostors(impostors: Mapping[str, Any]) -> None:
    """Refuse a table whose sides do not fit (ModelError)."""
    names = [name for name in ("seen", "walks") if name in impostors] + ["sizes", "fpir"]
    try:
        expected = tuple(len(impostors[name]) for name in names)
        got = np.asarray(impostors["threshold"], np.float64).shape
    except (KeyError, TypeError, ValueError) as err:
        raise ModelError(f"impostors: expected sizes, fpir and threshold; got {err!r}") from err
    if 0 in expected or got != expected:
        raise ModelError(
            f"impostors: expected thresholds by {', '.join(names)} {expected}; got {got}"
        )


def _swap_in(part: Path, folder: Path) -> None:
    """Let `part` become `folder`; what was there is put back when that fails (OSError)."""
    old = part.with_suffix(".old")
    if not folder.exists():
        part.rename(folder)
        return
    folder.rename(old)
    try:
        part.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


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


def json_bytes(model: pydantic.BaseModel) -> bytes:
    """Return a manifest or an engine's record as the content of its file."""
    return (json.dumps(model.model_dump(), indent=1, ensure_ascii=False) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
