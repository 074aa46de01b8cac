"""One thread for small networks."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small only wait for a second one, and burn six times the processor's time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
