"""Write an exported folder, whole or not at all, and its manifest (read by `runtime.manifest`)."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.errors import ExportError, ModelError, one_line
from cstl_edge.runtime.manifest import NAME, Manifest, read_manifest

PACKAGES = ("torch", "onnx", "onnxruntime", "numpy")


def write_folder(folder: Path, graphs: Mapping[str, bytes], manifest: Manifest) -> None:
    """Put graphs and manifest into `folder`, replacing an earlier export there.

    All is written beside first and renamed at the end, so a reader finds the old export or the new
    one.

    Args:
        folder: the export's.
        graphs: ONNX files by name.
        manifest: of these graphs.

    Raises:
        ExportError: the folder holds something else, or the disk refuses.
    """
    refuse_foreign(folder)
    part = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        for name, data in graphs.items():
            _write(part / name, data)
        _write(part / NAME, _json(manifest))
        part.chmod(0o755)  # mkdtemp's own is for the owner alone
        swap_in(part, folder)
    except OSError as err:
        raise ExportError(f"cannot write {one_line(folder)}: {one_line(err)}") from err
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def refuse_foreign(folder: Path) -> None:
    """Raise ExportError when `folder` exists and is neither empty nor an earlier export."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise ExportError(f"expected a new folder or an earlier export; got {one_line(folder)}")
    names = {entry.name for entry in folder.iterdir()}
    ours = (NAME, "engines")  # engines of an earlier export go with it
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
    card: Mapping[str, Any] | None = None,
) -> Manifest:
    """Add the results of an evaluation to an exported folder's manifest; the graphs stay.

    Args:
        folder: an exported model.
        impostors: distances of strangers, {"sizes", "fpir", "threshold", "data"}.
        card: what the model is, was trained on and is good for; anything that JSON holds.

    Raises:
        ModelError: the folder or the table is refused, or the disk.
    """
    target = Path(folder)
    entries = {"impostors": impostors, "card": card}
    if impostors is not None:
        _check_impostors(impostors)
    manifest = read_manifest(target)
    changed = {key: dict(value) for key, value in entries.items() if value is not None}
    manifest = Manifest.model_validate({**manifest.model_dump(), **changed})
    part = target / f".{NAME}.part"
    try:
        _write(part, _json(manifest))
        part.replace(target / NAME)
    except OSError as err:
        part.unlink(missing_ok=True)
        raise ModelError(f"cannot write {one_line(target / NAME)}: {one_line(err)}") from err
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
    names = [name for name in ("walks", "sizes", "fpir") if name != "walks" or name in impostors]
    try:
        expected = tuple(len(impostors[name]) for name in names)
        got = np.asarray(impostors["threshold"], np.float64).shape
    except (KeyError, TypeError, ValueError) as err:
        raise ModelError(f"impostors: expected sizes, fpir and threshold; got {err!r}") from err
    if 0 in expected or got != expected:
        raise ModelError(
            f"impostors: expected thresholds by {', '.join(names)} {expected}; got {got}"
        )


def swap_in(part: Path, folder: Path) -> None:
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


def _json(manifest: Manifest) -> bytes:
    return (json.dumps(manifest.model_dump(), indent=1, ensure_ascii=False) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
