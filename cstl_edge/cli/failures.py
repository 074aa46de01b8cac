"""Turns whatever a verb raises into one line, under `--json` an object, and an exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence

import typer

from cstl_edge.cli import usage
from cstl_edge.errors import (
    SIGNAL_BASE,
    CstlEdgeError,
    SourceUnavailable,
    StorageError,
    UsageError,
    one_line,
)

INTERRUPTED, BROKEN_PIPE = SIGNAL_BASE + 2, SIGNAL_BASE + 13
MESSAGE_WIDTH = 2000  # characters; a message is one line


def json_wanted(words: Sequence[str]) -> bool:
    """Tell whether `--json` stands among the words of a command line, before any `--`."""
    return "--json" in _options(words)


def take_debug(words: list[str]) -> bool:
    """Remove `--debug`, which every verb takes, from a command line; tell whether it was there."""
    debug = "--debug" in _options(words)
    if debug:
        words.remove("--debug")
    return debug


def run_verb(call: Callable[[], object], *, as_json: bool, debug: bool) -> int:
    """Run a command line, report its error and return the exit code.

    Args:
        call: The typer app, not standalone: returns an exit code or nothing.
        as_json: Print an error as an object on stdout too.
        debug: Print its traceback too.
    """
    _encode_everything(as_json)
    try:
        code = call()
        if sys.stdout is not None:
            sys.stdout.flush()  # a full disk is told now, not when the interpreter ends
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except SystemExit as end:  # typer's answer to a broken pipe, or a verb's own end
        if isinstance(end.__context__, BrokenPipeError):
            return _end_of_pipe()
        raise
    except BrokenPipeError:
        return _end_of_pipe()
    except Exception as err:
        if debug:
            traceback.print_exc()
        if type(err).__name__ == "NoArgsIsHelpError":
            print(err, file=sys.stderr)
            return UsageError.exit_code
        error = as_package_error(err)
        _print_error(error, as_json)
        return error.exit_code


def as_package_error(err: Exception) -> CstlEdgeError:
    """Return the error of the package that an exception means."""
    if isinstance(err, CstlEdgeError):
        return err
    if isinstance(err, usage.FAULTS):
        return usage.usage_error(err)
    if isinstance(err, ConnectionError | TimeoutError):
        return SourceUnavailable(f"the connection failed: {err}")
    if isinstance(err, OSError):
        return StorageError.of(err.filename or "the output", err)
    if isinstance(err, MemoryError):
        return CstlEdgeError("out of memory", remedy="close other programs, or give less at a time")
    last = traceback.extract_tb(err.__traceback__)[-1:]
    place = f" in {os.path.basename(last[0].filename)}:{last[0].lineno}" if last else ""
    return CstlEdgeError(
        f"cstl-edge made a mistake: {type(err).__name__}{place}: {err}",
        remedy=CstlEdgeError.remedy,
    )


def _options(words: Sequence[str]) -> Sequence[str]:
    """Return the words before `--`, after which none is an option."""
    return words[: words.index("--")] if "--" in words else words


def _encode_everything(as_json: bool) -> None:
    """Let no name be refused by the terminal's encoding; JSON is UTF-8 everywhere."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            encoding = "utf-8" if as_json and stream is sys.stdout else stream.encoding
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def _print_error(error: CstlEdgeError, as_json: bool) -> None:
    """Print an error as one line on stderr, and as an object on stdout where that is wanted."""
    try:
        if as_json:
            print(json.dumps({"error": error.record()}, ensure_ascii=False))
        sys.stdout.flush()
    except OSError:
        _discard_output()
    print(f"error: {one_line(error, MESSAGE_WIDTH)}", file=sys.stderr)


def _end_of_pipe() -> int:
    """Return the exit code of a run whose reader has gone."""
    _discard_output()
    return BROKEN_PIPE


def _discard_output() -> None:
    """Send stdout nowhere: the interpreter would try again to write what it refused."""
    stream = sys.__stdout__
    if stream is not None and not stream.closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
