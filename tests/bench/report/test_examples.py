"""The examples in docstrings are true."""

import doctest
import importlib

import pytest
from standin_results import needs_bench


@needs_bench
@pytest.mark.parametrize(
    "name", ["cells", "compare", "digits", "headlines", "load", "planes", "tables"]
)
def test_examples(name):
    done = doctest.testmod(importlib.import_module(f"cstl_edge.bench.report.{name}"))
    assert done.attempted > 0
    assert done.failed == 0
