"""Trees of the datasets without their files: layouts list folders and open nothing."""

import pytest


@pytest.fixture
def left_out():
    return "*.png", "*.pkl", "*.txt"
