"""Worker processes for heavy data work: low priority, limited memory, ended with their parent.

They are spawned, not forked: torch's threads do not survive a fork.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from cstl_edge.errors import DataError

Job = TypeVar("Job")
Result = TypeVar("Result")
ProgressCallback = Callable[[int, int], None]
"""Called with how much is done, and of how much."""

NICENESS = 10  # a camera or a training run on the same machine goes first
MEMORY_BYTES = 4 * 2**30  # of address space that a worker may take while it reads untrusted files


def run_jobs(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int,
    initializer: Callable[[], None] | None = None,
) -> Iterator[tuple[int, Result]]:
    """Yield the number of each job and its result, in the order in which they end.

    Args:
        function: Function, called with each job.
        jobs: Any picklable objects.
        workers: Number of processes; 0 works in this one. Above 0 the calling script needs its
            `if __name__ == "__main__"`.
        initializer: First call of a worker; None is `restrict_worker`, for jobs on untrusted files.

    Raises:
        DataError: a worker died. An error of a job is raised as it is; waiting jobs are cancelled.
    """
    if not workers:
        yield from ((number, function(job)) for number, job in enumerate(jobs))
        return
    others = set(multiprocessing.active_children())
    spawn, count = multiprocessing.get_context("spawn"), min(workers, max(1, len(jobs)))
    pool = ProcessPoolExecutor(count, spawn, initializer or restrict_worker)
    try:
        numbers = {pool.submit(function, job): number for number, job in enumerate(jobs)}
        for done in as_completed(numbers):
            yield numbers[done], done.result()
    except BrokenProcessPool as err:
        raise DataError(
            "a worker was killed, most likely for want of memory; run the same command again, with "
            "fewer --workers: it goes on where it was"
        ) from err
    except BaseException:  # an error, Ctrl-C, or a caller that stops: do not wait for the others
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def lower_priority() -> None:
    """Run this worker on one thread, at low priority, and end it with its parent."""
    # A parent that is killed does not end its workers; they would wait for ever.
    threading.Thread(target=_exit_with_parent_process, daemon=True).start()
    with contextlib.suppress(ImportError):  # an initializer that fails looks like a killed worker
        import cv2

        cv2.setNumThreads(1)
    if hasattr(os, "nice"):
        os.nice(NICENESS)


def restrict_worker() -> None:
    """Limit this worker for untrusted files: low priority, and MemoryError above MEMORY_BYTES."""
    lower_priority()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):  # not on Windows, not on macOS
        return
    cap = pages * resource.getpagesize() + MEMORY_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or cap < hard:
        resource.setrlimit(resource.RLIMIT_AS, (cap, hard))


def _exit_with_parent_process() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
