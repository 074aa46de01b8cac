"""NVTX: ranges by name where they are switched on, nothing where they are not."""

import sys
import types
from contextlib import contextmanager

import numpy as np
import pytest
from golden_export import GOLDEN

from cstl_edge.errors import ConfigError
from cstl_edge.measure import nvtx
from cstl_edge.measure.stats import Samples
from cstl_edge.runtime import load


@pytest.fixture
def ranges(monkeypatch):
    """The ranges that were marked, in order of their begin."""
    marked = []

    @contextmanager
    def annotate(name, domain):
        assert domain == "cstl_edge"
        marked.append(name)
        yield

    monkeypatch.setitem(sys.modules, "nvtx", types.SimpleNamespace(annotate=annotate))
    nvtx._annotate.cache_clear()
    yield marked
    nvtx._annotate.cache_clear()


def test_stages_and_graphs_are_marked_by_the_names_of_the_docs(ranges, monkeypatch):
    monkeypatch.setenv(nvtx.VARIABLE, "1")
    with Samples().time("identify"), Samples().time("segment"):
        pass
    encoder = load(GOLDEN / "tiny", "onnxruntime")
    encoder.encode(np.zeros((1, 2, 16, 12), np.uint8))
    assert ranges == ["match", "segment", "frames", "head"]


@pytest.mark.parametrize("value", ["", "0"])
def test_they_are_off_by_default(ranges, monkeypatch, value):
    monkeypatch.setenv(nvtx.VARIABLE, value)
    with Samples().time("identify"):
        pass
    assert ranges == []


def test_what_is_missing_is_named(ranges, monkeypatch):
    monkeypatch.setenv(nvtx.VARIABLE, "1")
    monkeypatch.setitem(sys.modules, "nvtx", None)
    with pytest.raises(ConfigError, match="pip install nvtx"):
        nvtx.nvtx_range("capture")
