"""Processes that do the heavy work of data: spawned, polite, and gone when their parent is.

Spawned, not forked: torch's threads do not survive a fork.
"""

from __future__ import annotations

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
Tell = Callable[[int, int], None]  # how much is done, and of how much

NICENESS = 10  # a camera or a training run on the same machine goes first
MEMORY_BYTES = 4 * 2**30  # of address space that untrusted files may make a worker ask for


def run_jobs(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[int, Result]]:
    """Yield the place of each job and its result, in the order in which they end.

    workers: processes; 0 works in this one. Above 0 the calling script needs its
    `if __name__ == "__main__"`.
    Raises what a job raises, and DataError when a worker dies; jobs that wait are given up.
    """
    if not workers:
        yield from ((place, function(job)) for place, job in enumerate(jobs))
        return
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, max(1, len(jobs))), context, step_back_for_files)
    try:
        places = {pool.submit(function, job): place for place, job in enumerate(jobs)}
        for done in as_completed(places):
            yield places[done], done.result()
    except BrokenProcessPool as err:
        raise DataError(
            "a worker was killed, most likely for want of memory; run the same command again, with "
            "fewer --workers: it goes on where it was"
        ) from err
    except BaseException:  # an error, Ctrl-C, or nobody wants the rest: do not wait for the others
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def step_back() -> None:
    """Make this worker polite: one thread, low priority, gone with its parent."""
    import cv2

    # A parent that is killed does not take its workers along; they would wait for ever.
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    if hasattr(os, "nice"):
        os.nice(NICENESS)


def step_back_for_files() -> None:
    """Make this worker polite and fit for untrusted files: what asks for too much gets an error."""
    step_back()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):  # not on Windows, not on macOS
        return
    cap = pages * resource.getpagesize() + MEMORY_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or cap < hard:
        resource.setrlimit(resource.RLIMIT_AS, (cap, hard))


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
