"""Child process that reads a camera, a stream or a file and sends pictures to its parent.

Standard input brings one line of JSON (so that no password stands in the list of processes) and
then stays open: its end means that the parent is gone or wants no more. What a decoder does here,
with files that anybody may have made, is bounded: memory by a limit of this process, time by the
parent, which kills it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading

from cstl_edge.live.sources.child_protocol import Failure, ReadRequest, SourceFailure, send

MEMORY_BYTES = 2**30  # of this process beside its code
MEMORY_REASON = f"reading it takes more than {MEMORY_BYTES // 2**30} GiB of memory"
TOO_LITTLE = ("cannot allocate", "bad_alloc", "insufficient memory")


def main() -> int:
    """Read what standard input names until that closes; exit status 1 on failure."""
    pipe = int(sys.argv[2])
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # where FFmpeg's complaints are printed
    request = ReadRequest(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_exit_at_end_of_stdin, daemon=True).start()
    if request.path is not None or request.url is not None:  # a GPU's drivers reserve far more
        _limit_memory()
    try:
        read(request, pipe)
    except BrokenPipeError:
        return 0
    except SourceFailure as err:
        return _report(pipe, err.failure)
    except MemoryError:
        return _report(pipe, Failure("memory", MEMORY_REASON))
    except OSError as err:
        return _report(pipe, Failure("unavailable", err.strerror or str(err)))
    except Exception as err:
        reason = f"{type(err).__name__}: {err}"
        if any(words in reason.lower() for words in TOO_LITTLE):  # cv2's words
            return _report(pipe, Failure("memory", MEMORY_REASON))
        return _report(pipe, Failure("unavailable", f"the reader failed: {reason}"))
    return 0


def read(request: ReadRequest, pipe: int) -> None:
    """Send the records of a source until it or the parent ends; raises what stops it."""
    if request.pipeline is not None:
        from cstl_edge.live.sources.read_gst import read as read_source
    elif request.device is None and request.reader == "av":
        from cstl_edge.live.sources.read_av import read as read_source
    else:
        from cstl_edge.live.sources.read_cv2 import read as read_source
    read_source(request, pipe)


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):  # no Linux
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, hard))


def _report(pipe: int, failure: Failure) -> int:
    with contextlib.suppress(OSError):
        send(pipe, failure)
    return 1


def _exit_at_end_of_stdin() -> None:
    """Exit when standard input ends, whatever the decoder is doing."""
    while sys.stdin.read(1):
        pass
    os._exit(0)
