"""The examples in docstrings are true."""

import doctest
import importlib

import pytest

MODULES = [
    "data.walkers",
    "errors",
    "live.segment",
    "live.source_gst",
    "live.source_uri",
    "measure",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    done = doctest.testmod(importlib.import_module(f"cstl_edge.{name}"))
    assert done.attempted > 0
    assert done.failed == 0
