"""Table of the backends under test: a new entry, and the short form."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import pytest
from command_line import call
from standin_engines import seal

from cstl_edge.bench.backends import open as backend_table
from cstl_edge.bench.backends.base import StreamingBackend, Unavailable
from cstl_edge.bench.backends.open import BENCH_BACKENDS, streaming_backends
from cstl_edge.bench.scenarios import graph
from cstl_edge.registry import Entry

MINE = """
import dataclasses
from cstl_edge.bench.backends import onnxruntime
from cstl_edge.bench.backends.base import Backend, Unavailable

def backends(context):
    (theirs, *_) = onnxruntime.backends(context)
    yield Backend("mine float32", theirs.open_graph, ("frames",))
    yield Unavailable("mine int8", "not made yet")
"""


def test_a_backend_is_a_file_and_a_line_of_the_table(tmp_path, monkeypatch, golden):
    (tmp_path / "my_bench_backend.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    entries = {
        "onnxruntime": BENCH_BACKENDS.entries["onnxruntime"],
        "mine": Entry("my_bench_backend:backends"),
    }
    monkeypatch.setattr(BENCH_BACKENDS, "entries", entries)
    monkeypatch.setattr(graph, "SHORT_CASES", graph.SHORT_CASES[:1])
    bench = ["bench", "--short", "--scenario", "graph", "--threads", 1, "--model", golden / "tiny"]
    done = call(*bench, "--out", tmp_path / "rows.jsonl", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    mine = {row["contender"]: row for row in rows if row["contender"].startswith("mine")}
    assert mine["mine float32"]["check"]["ok"], done.stderr
    assert mine["mine float32"]["samples"]["wall"]
    assert mine["mine int8"]["skipped"] == "not made yet"


def test_the_short_form_selects_its_backends(reduced):
    assert [one.name for one in streaming_backends(reduced)] == [*backend_table.SHORT_FORM]
    longer = dataclasses.replace(reduced, short=False)
    assert "onnxruntime int8" in [one.name for one in streaming_backends(longer)]


@pytest.mark.usefixtures("everybody")
def test_streaming_backends_and_the_reasons_of_the_others(reduced, plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    by_name = {one.name: one for one in streaming_backends(reduced)}
    here = [name for name, one in by_name.items() if isinstance(one, StreamingBackend)]
    assert here == ["onnxruntime float32", "onnxruntime float16", "onnxruntime int8"]
    for name in ("openvino float32", "openvino int8"):
        assert by_name[name].reason.endswith('[bench]"')
    assert "cstl-edge build" in by_name["tensorrt float16"].reason
    assert "pytorch float32" in by_name
    missing = {x.name: x.reason for x in streaming_backends(plain) if isinstance(x, Unavailable)}
    assert "--precision int8" in missing["onnxruntime int8"]


@pytest.mark.usefixtures("everybody")
def test_engines_stream_under_one_name(plain, golden, tmp_path):
    folder = Path(shutil.copytree(golden / "tiny", tmp_path / "tiny"))
    seal(folder)
    context = dataclasses.replace(plain, engines=folder)
    engines = [one for one in streaming_backends(context) if "tensorrt" in one.name]
    assert [one.name for one in engines] == ["tensorrt float16"]
    assert isinstance(engines[0], StreamingBackend)
    assert engines[0].graphs == ()
