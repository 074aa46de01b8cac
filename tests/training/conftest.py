"""One thread for every test, and a process to kill."""

import os

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def in_child():
    """Run `work` in a fork of this process, which ends by it or by a signal; return its pid."""

    def fork(work):
        pid = os.fork()
        if pid == 0:
            try:
                work()
            finally:
                os._exit(0)
        return pid

    return fork
