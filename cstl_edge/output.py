"""Files that the package writes: what may be written where, and whole or not at all.

`Outputs` refuses a name that would destroy something (ConfigError, before any work); `whole_file`
writes to an unpredictable name beside the file, syncs and renames; `JsonLines` appends whole lines
to a file that is ours. A disk that refuses is a StorageError with the reason in plain words.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from cstl_edge.errors import ConfigError, StorageError, one_line

PathLike = str | os.PathLike[str]
IsOurs = Callable[[Mapping[str, Any]], bool]
"""Tells whether the first JSON object of a file was written by us, so that we may append."""

PRIVATE = 0o600  # mode of files that show or name people
USER_FOLDERS = {  # variable of the environment, and the folder in the home without it
    "data": ("XDG_DATA_HOME", ".local/share"),
    "cache": ("XDG_CACHE_HOME", ".cache"),
    "config": ("XDG_CONFIG_HOME", ".config"),
}
MAX_FIRST_LINE_BYTES = 2**26  # a row of a long benchmark has 6 MB


@contextlib.contextmanager
def storing(path: PathLike, kept: str = "") -> Iterator[None]:
    """Turn an OSError of the block into a StorageError about `path`.

    kept: sentence on what is not lost
    """
    try:
        yield
    except OSError as err:
        raise StorageError.of(path, err, kept) from err
    except StorageError as err:  # of a file within
        if not kept:
            raise
        raise StorageError(err.message, remedy=f"{err.remedy}. {kept}") from err


def user_folder(kind: str) -> Path:
    """Return where this user's `data`, `cache` or `config` of the package are (XDG).

    Raises ConfigError where there is no home folder, as for a user whom the system does not know.
    """
    variable, default = USER_FOLDERS[kind]
    chosen = os.environ.get(variable)
    try:
        return (Path(chosen) if chosen else Path.home() / default) / "cstl-edge"
    except RuntimeError as err:
        raise ConfigError(
            "this user has no home folder", remedy=f"set HOME or {variable}, or name the file"
        ) from err


class Outputs:
    """The files that one command is to write, each checked before any work begins.

    outputs = Outputs(inputs=[source, gallery], overwrite=overwrite)
    outputs.claim(annotate, "--annotate", suffixes=(".mp4", ".avi"))
    """

    def __init__(self, inputs: Iterable[PathLike | None] = (), *, overwrite: bool = False) -> None:
        """Begin with the command's inputs.

        Args:
            inputs: Files and folders that are read, and addresses, which count as no file.
            overwrite: Whether an output may replace an existing file; never an input.
        """
        self.overwrite = overwrite
        self._inputs = [Path(path) for path in inputs if path is not None]
        self._claimed: list[tuple[Path, str]] = []

    def claim(
        self,
        path: PathLike,
        option: str,
        *,
        suffixes: Sequence[str] = (),
        is_ours: IsOurs | None = None,
        is_folder: bool = False,
    ) -> Path:
        """Return the path of an output, or refuse it; devices such as /dev/null pass.

        Args:
            path: File to be written, or the folder where `is_folder`.
            option: Of the command line, for the message: `--annotate`.
            suffixes: Suffixes of its format; any where there are none.
            is_ours: For JSON lines, which are appended to an existing file of ours.
            is_folder: True for a folder; an empty one counts as new.

        Raises:
            ConfigError: It is an input, another output, exists, or has another suffix.
        """
        output, name = Path(path), one_line(path)
        if suffixes and output.suffix.lower() not in suffixes:
            expected = " or ".join(suffixes)
            raise ConfigError(f"{option}: expected a file that ends in {expected}; got {name}")
        for other, other_option in self._claimed:
            if _same(output, other):
                raise ConfigError(f"{option} and {other_option} are one file, {name}; name two")
        for source in self._inputs:
            if _same(output, source) or (output.exists() and _inside(output, source)):
                raise ConfigError(
                    f"{option} {name} would replace what is read, {one_line(source)}; name another "
                    "file"
                )
        if os.path.lexists(output) and not self.overwrite:
            _refuse_existing(output, option, is_ours, is_folder)
        self._claimed.append((output, option))
        return output


def _refuse_existing(path: Path, option: str, is_ours: IsOurs | None, is_folder: bool) -> None:
    name = one_line(path)
    if is_folder and path.is_dir():
        if next(path.iterdir(), None) is None:
            return
        raise ConfigError(
            f"{option}: the folder {name} is not empty; name another one, or replace it with "
            "--overwrite"
        )
    if path.is_dir():
        raise ConfigError(f"{option}: expected the name of a file; {name} is a folder")
    if path.exists() and not path.is_file():  # /dev/null, a pipe to another program
        return
    if is_ours is not None:
        if not path.exists() or _is_ours(path, is_ours):
            return
        raise ConfigError(
            f"{option}: {name} exists and holds something else than lines of this command; name "
            "another file, or replace it with --overwrite"
        )
    raise ConfigError(f"{option}: {name} exists; name another file, or replace it with --overwrite")


def _is_ours(path: Path, is_ours: IsOurs) -> bool:
    """Tell whether a file is empty or begins with a JSON line of ours."""
    try:
        with path.open("rb") as file:
            line = file.readline(MAX_FIRST_LINE_BYTES)
        record = json.loads(line) if line else None
    except (OSError, ValueError, RecursionError):
        return False
    return not line or (isinstance(record, dict) and is_ours(record))


def _same(path: Path, other: Path) -> bool:
    """Tell whether two names are one file: by links, by hard links, or not written yet."""
    try:
        if path.exists() and other.exists():
            regular = stat.S_ISREG(path.stat().st_mode) or path.is_dir()
            return regular and path.samefile(other)
        return os.path.realpath(path) == os.path.realpath(other)
    except (OSError, ValueError):  # an address of a camera is no path
        return False


def _inside(path: Path, folder: Path) -> bool:
    """Tell whether a path is in a folder that is read."""
    try:
        return folder.is_dir() and Path(os.path.realpath(path)).is_relative_to(
            os.path.realpath(folder)
        )
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def whole_file(path: PathLike, *, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Give a file to write that appears under its name, whole, when the block ends well.

    It is written under an unpredictable name beside, synced and renamed; an error or a kill leaves
    what was there before. A device or a pipe is written as it is.

    Args:
        path: File; missing folders are made, a link is followed.
        mode: Permissions, before the umask.

    Raises:
        StorageError: The disk refuses.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file() and not target.is_dir():
        with storing(path), target.open("wb") as device:
            yield device
        return
    part: Path | None = None
    try:
        with storing(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            sweep(target)
            part = partial_name(target)
            with os.fdopen(_create(part, mode), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(part, target)
                part = None
            sync_folder(target.parent)
    finally:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def write_file(path: PathLike, content: bytes | str, *, mode: int = 0o644) -> Path:
    """Write a file, whole or not at all, and return its path (StorageError).

    Args:
        path: File; missing folders are made.
        content: Bytes, or a text, which is written as UTF-8.
        mode: Permissions, before the umask.
    """
    with whole_file(path, mode=mode) as file:
        file.write(content.encode("utf-8", "replace") if isinstance(content, str) else content)
    return Path(path)


def write_one_of_many(path: Path, content: bytes) -> None:
    """Write one of thousands of files in a folder, whole or not at all (StorageError).

    It is neither synced, nor are parts of killed processes looked for, nor links followed, which
    costs more than the file: for files that are checked when they are read, in a folder that is
    there and that `sweep_folder` has swept.
    """
    part = partial_name(path)
    with storing(path):
        try:
            with os.fdopen(_create(part, 0o644), "wb") as file:
                file.write(content)
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def partial_name(target: Path, suffix: str = ".part") -> Path:
    """Return an unpredictable name beside a file, hidden, for its content until it is whole."""
    return target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}{suffix}")


def sweep(target: Path) -> None:
    """Remove what killed processes left of this file: parts that no process holds."""
    stem = f".{target.name[:100]}."
    for entry in os.scandir(target.parent):
        if entry.name.startswith(stem) and len(entry.name) == len(stem) + 16 + len(".part"):
            _remove_part(entry.path)


def sweep_folder(folder: Path) -> None:
    """Remove what killed processes left below a folder: parts that no process holds."""
    for path in folder.rglob(".*.part"):
        _remove_part(str(path))


def _remove_part(path: str) -> None:
    """Remove a file where it is a part, by its name, that no process holds."""
    named = re.search(r"\.[0-9a-f]{16}\.part$", path) is not None
    if not named or os.path.islink(path) or not os.path.isfile(path):
        return
    with contextlib.suppress(OSError):  # in use, or of another user
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        try:
            if _lock(handle):
                os.unlink(path)
        finally:
            os.close(handle)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that a rename survives a power cut, where the system allows it."""
    with contextlib.suppress(OSError):  # some network disks refuse it
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _create(path: Path, mode: int) -> int:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    _lock(handle)
    return handle


def _lock(handle: int) -> bool:
    """Lock an open file for this process, where the system can; return whether it is ours now."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


class JsonLines:
    """Appends JSON objects to a file, each as one whole line in one write; a context manager.

    A line that an earlier process left unfinished (power went) is ended first.
    """

    def __init__(
        self, path: PathLike, *, overwrite_foreign: IsOurs | None = None, mode: int = PRIVATE
    ) -> None:
        """Open the file, or make it.

        Args:
            path: File; missing folders are made.
            overwrite_foreign: Where given, a file whose first line it does not recognise is
                emptied: for a file that `Outputs.claim` allowed to replace.
            mode: Permissions of a new file, before the umask.

        Raises:
            StorageError: The disk refuses.
        """
        self.path = Path(path)
        self._file: int | None = None
        with storing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # O_APPEND: a whole line arrives at the end, whoever else writes
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, mode)
            self._regular = stat.S_ISREG(os.fstat(self._file).st_mode)
            if self._regular:
                if overwrite_foreign is not None and not _is_ours(self.path, overwrite_foreign):
                    os.ftruncate(self._file, 0)
                self._end_last_line(self._file)

    def _end_last_line(self, file: int) -> None:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            os.write(file, b"\n")

    def write(self, record: Mapping[str, Any] | str) -> None:
        """Append one object, or the text of one; StorageError leaves no half line."""
        if self._file is None:
            raise ValueError(f"{self.path} is closed")
        text = record if isinstance(record, str) else json.dumps(dict(record), ensure_ascii=False)
        line = (text + "\n").encode("utf-8", "replace")
        before = os.fstat(self._file).st_size
        with storing(self.path):
            written = os.write(self._file, line)
            if written < len(line):
                if self._regular:
                    os.ftruncate(self._file, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file; may be called twice."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def __enter__(self) -> JsonLines:
        """Return the writer."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the file."""
        self.close()


def append_line(path: PathLike, record: Mapping[str, Any], *, mode: int = 0o644) -> None:
    """Append one JSON object to a file as one line, as `JsonLines` does (StorageError)."""
    with JsonLines(path, mode=mode) as lines:
        lines.write(record)
