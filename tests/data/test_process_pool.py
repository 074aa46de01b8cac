"""Worker processes: death, too much memory and errors reach the caller at once."""

import os
import time

import pytest

from cstl_edge.data.process_pool import run_jobs
from cstl_edge.errors import DataError


def test_a_killed_worker_raises_data_error(tmp_path):
    with pytest.raises(DataError, match="a worker was killed"):
        list(run_jobs(os._exit, [1], 1))


def test_a_job_above_the_memory_limit_raises_memory_error():
    with pytest.raises(MemoryError):
        list(run_jobs(bytearray, [2**36], 1))


def test_an_error_does_not_wait_for_the_other_workers():
    start = time.monotonic()
    with pytest.raises(ValueError, match="negative"):
        list(run_jobs(time.sleep, [60, -1], 2))
    assert time.monotonic() - start < 30
