"""Exceptions of the package; each class carries the exit code of the command line.

A message says what was expected, what came and what to do. Every fault of an input (files, cameras,
models, names) raises one of these, never a bare traceback. `EXIT_CODES` and `error_kinds` are the
tables that `--help` and the docs print.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TypedDict

EXIT_CODES = {  # of the command line: the same for the same kind of mistake
    0: "everything was done",
    1: "a mistake of cstl-edge itself",
    2: "usage or configuration",
    3: "bad data",
    4: "model or engine refused",
    5: "source unavailable",
    6: "gallery or storage",
}
SIGNAL_BASE = 128  # 128 + N: signal N ended the run (130: Ctrl-C), after everything was written
GONE = "check that the disk is still there and mounted, or write to another folder"
STORAGE_REMEDIES = {  # what to do, by the refusal of the system
    errno.ENOSPC: "make room, or write to another folder",
    errno.EDQUOT: "make room, or write to another folder",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or write less",
    errno.EROFS: "write to another folder: this disk is read-only",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "give the name of a file",
    **dict.fromkeys((errno.ENOENT, errno.EIO, errno.ENXIO, errno.ENODEV), GONE),
    **dict.fromkeys((errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN), GONE),
}


class ErrorRecord(TypedDict):
    """An error as programs read it under `--json`, below the key `error`."""

    code: str  # of the class, stable
    message: str
    remedy: str
    exit_code: int


class CstlEdgeError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1
    code = "internal"  # short and stable, for programs
    remedy = "run it again with --debug and report what it prints"  # the class's, in a sentence

    def __init__(self, message: object = "", *, remedy: str | None = None) -> None:
        """Hold a message.

        Args:
            message: What was expected and what came, with what to do unless `remedy` says it.
            remedy: What to do, printed after the message; the class's own is for programs alone.
        """
        super().__init__(message)
        if remedy is not None:
            self.remedy = remedy

    @property
    def message(self) -> str:
        """What was expected and what came."""
        return super().__str__()

    def __str__(self) -> str:
        own = self.__dict__.get("remedy")
        return f"{self.message}; {own}" if own else self.message

    def record(self) -> ErrorRecord:
        """Return the error as programs read it."""
        return {
            "code": self.code,
            "message": self.message,
            "remedy": self.remedy,
            "exit_code": self.exit_code,
        }


class ConfigError(CstlEdgeError):
    """A setting or a command line that is not valid."""

    exit_code = 2
    code = "configuration"
    remedy = "correct the setting that the message names"


class UsageError(ConfigError):
    """A command line that does not fit the verb: an unknown option, a missing argument."""

    code = "usage"
    remedy = "see --help of the verb"


class MissingPackage(ConfigError):
    """An optional package that a verb needs and that is not installed."""

    code = "package-missing"
    remedy = "install the extra that the message names"


class DataError(CstlEdgeError):
    """Images, videos or silhouettes that cannot be used."""

    exit_code = 3
    code = "bad-data"
    remedy = "correct or replace the file that the message names"


class ModelError(CstlEdgeError):
    """A model, engine or checkpoint that is refused."""

    exit_code = 4
    code = "model-refused"
    remedy = "export the model or build its engines again, or leave --model out"


class ExportError(ModelError):
    """An export whose result differs from the network it came from."""

    code = "export-differs"
    remedy = "keep the float32 export, and report this"


class BackendUnavailable(ModelError):
    """A requested runtime that is not on this machine."""

    code = "backend-unavailable"
    remedy = "see cstl-edge doctor, or leave --backend out"


class BackendAway(BackendUnavailable):
    """A server that computes does not answer; it may come back by itself."""

    code = "backend-away"
    remedy = "start the server, or use a model of this machine"


class SourceUnavailable(CstlEdgeError):
    """A camera, stream or file that does not open or stopped answering."""

    exit_code = 5
    code = "source-unavailable"
    remedy = "check the address, the camera and the network"


class GalleryError(CstlEdgeError):
    """A gallery that cannot be read, written or mixed with this model."""

    exit_code = 6
    code = "gallery"
    remedy = "see cstl-edge gallery --help"


class DamagedGallery(GalleryError):
    """A gallery, or a part of one, that is not what was written."""

    code = "gallery-damaged"
    remedy = (
        "restore a backup (gallery restore), or take out what is damaged (gallery verify --repair)"
    )


class ServerAway(GalleryError):
    """The server of a gallery does not answer."""

    code = "gallery-server-away"
    remedy = "look at the server and at the network; what is enrolled already goes on to be matched"


class ServerRefuses(GalleryError):
    """The server of a gallery is there, and does not let this box in; no answers are given."""

    code = "gallery-refused"
    remedy = "correct the address or its credentials, or let the box in on the server"


class StorageError(CstlEdgeError):
    """An output that cannot be written: full disk, no permission, vanished mount, read-only."""

    exit_code = 6
    code = "storage"
    remedy = "make room, or write to another folder"

    @classmethod
    def of(cls, path: object, err: OSError, kept: str = "") -> StorageError:
        """Return the error of a failed write.

        Args:
            path: File or folder, or what it is called.
            err: Refusal of the system.
            kept: Sentence on what is not lost.

        >>> str(StorageError.of("w.mp4", OSError(errno.ENOSPC, "No space left on device")))
        'cannot write w.mp4: No space left on device; make room, or write to another folder'
        """
        own = STORAGE_REMEDIES.get(err.errno or 0, "write to another folder, or check its rights")
        message = f"cannot write {one_line(path)}: {one_line(err.strerror or err)}"
        return cls(message, remedy=f"{own}. {kept}" if kept else own)


def error_kinds() -> Iterator[type[CstlEdgeError]]:
    """Yield the classes of errors by exit code: `code`, `exit_code`, `remedy` and a docstring."""
    kinds = [kind for kind in globals().values() if isinstance(kind, type)]
    errors = [kind for kind in kinds if issubclass(kind, CstlEdgeError)]
    yield from sorted(errors, key=lambda kind: kind.exit_code)


def one_line(text: object, limit: int = 200) -> str:
    r"""Return `text` fit for one line of a message: control characters escaped, cut at `limit`.

    >>> one_line("a\nb")
    'a\\nb'
    """
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text)
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
