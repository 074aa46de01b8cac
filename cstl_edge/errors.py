"""Exceptions of the package; each class carries the exit code of the command line.

A message says what was expected, what came and what to do. Every fault of an input (files, cameras,
models, names) raises one of these, never a bare traceback.
"""

from __future__ import annotations


class CstlEdgeError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class ConfigError(CstlEdgeError):
    """A setting or a command line that is not valid."""

    exit_code = 2


class DataError(CstlEdgeError):
    """Images, videos or silhouettes that cannot be used."""

    exit_code = 3


class ModelError(CstlEdgeError):
    """A model, engine or checkpoint that is refused."""

    exit_code = 4


class ExportError(ModelError):
    """An export whose result differs from the network it came from."""


class BackendUnavailable(ModelError):
    """A requested runtime that is not on this machine."""


class SourceUnavailable(CstlEdgeError):
    """A camera, stream or file that does not open or stopped answering."""

    exit_code = 5


class GalleryError(CstlEdgeError):
    """A gallery that cannot be read, written or mixed with this model."""

    exit_code = 6


def one_line(text: object, limit: int = 200) -> str:
    r"""Return `text` fit for one line of a message: control characters escaped, cut at `limit`.

    >>> one_line("a\nb")
    'a\\nb'
    """
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text)
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
