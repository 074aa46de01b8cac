"""The examples in docstrings are true."""

import doctest
import importlib

import pytest

MODULES = ["errors", "measure"]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    done = doctest.testmod(importlib.import_module(f"cstl_edge.{name}"))
    assert done.attempted > 0
    assert done.failed == 0
