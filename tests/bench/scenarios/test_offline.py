"""Scenario `offline`: sequences per second from raw times; none of wrong answers."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from standin_bench import raising, ran

from cstl_edge.bench.backends import embedders as embedders_module
from cstl_edge.bench.backends import open as backend_table
from cstl_edge.bench.backends.base import Unavailable, ran_of
from cstl_edge.bench.backends.embedders import Embedder
from cstl_edge.bench.scenarios import offline
from cstl_edge.bench.scenarios.offline import throughput
from cstl_edge.errors import ModelError
from cstl_edge.measure.timing import Timing
from cstl_edge.runtime import load

RAN = ran(threads=2)

pytestmark = pytest.mark.usefixtures("everybody")


@pytest.fixture(autouse=True)
def encoders_alone(monkeypatch):
    """Leave out backends that have no encoder: OpenVINO in bfloat16 compiles for every shape."""
    monkeypatch.setattr(embedders_module, "backends", backend_table.streaming_backends)
    monkeypatch.setattr(offline, "EMBED", ())  # processes that take seconds to start


def test_throughput_is_of_the_whole_time():
    wall_ms = [100.0, 100.0, 100.0, 700.0]  # 4 calls of 8 sequences in one second
    actual = throughput(8, 30, wall_ms, RAN)
    expected = {"sequences_per_s": 32.0, "frames_per_s": 960.0}
    expected |= {"sequences_per_core_minute": 960.0, "casia_b_test_minutes": 5485 / 32 / 60}
    assert actual == pytest.approx(expected)


def test_there_are_no_core_minutes_on_a_gpu():
    gpu = RAN.model_copy(update={"provider": "NVIDIA Orin", "threads": 1})
    assert "sequences_per_core_minute" not in throughput(1, 30, [10.0], gpu)
    assert "sequences_per_core_minute" in throughput(1, 30, [10.0], RAN)


def test_rows_agree_with_their_raw_samples(reduced):
    rows = [row for row in offline.rows(reduced) if row.samples]
    names = {row.contender for row in rows}
    assert {"onnxruntime float32", "onnxruntime float16", "onnxruntime int8"} <= names
    for row in rows:
        wall_s = np.array(row.samples["wall"]) / 1e3
        per_s = row.case.batch * len(wall_s) / wall_s.sum()
        assert row.values["sequences_per_s"] == pytest.approx(per_s)
        assert row.values["casia_b_test_minutes"] * per_s * 60 == pytest.approx(5485)
        assert row.values["best_batch"] == 2
        assert (row.case.graph, row.case.batch, row.case.frames) == ("full", 2, 30)
        assert row.check.ok
        assert row.check.reference.startswith("onnxruntime float32, 2 answers")
        assert len(wall_s) >= offline.LEAST_SAMPLES


def test_the_verb_embed_has_a_row_of_its_own(reduced):
    row = offline._by_processes(reduced, "onnxruntime", "float32")
    assert row.skipped is None
    assert row.contender == f"embed, {reduced.threads} processes, onnxruntime float32"
    per_s = row.values["sequences_per_s"]
    assert per_s > 0
    assert row.values["sequences_per_core_minute"] == pytest.approx(60 * per_s / reduced.threads)
    missing = offline._by_processes(reduced, "onnxruntime", "bfloat16")
    assert missing.skipped


@pytest.fixture
def two(monkeypatch):
    """Measure two backends only."""
    monkeypatch.setattr(backend_table, "SHORT_FORM", ("onnxruntime float32", "onnxruntime int8"))


def test_the_best_batch_is_the_one_that_gave_most(reduced, two, monkeypatch):
    def measure_interleaved(runs, **how):
        for run in runs.values():
            run()
        return {key: Timing({"wall": [{"1": 10.0, "3": 15.0, "4": 80.0}[key]]}) for key in runs}

    monkeypatch.setattr(offline, "measure_interleaved", measure_interleaved)
    monkeypatch.setattr(offline, "SHORT_BATCHES", (1, 3, 4))
    rows = [row for row in offline.rows(reduced) if row.contender == "onnxruntime int8"]
    assert [row.case.batch for row in rows] == [1, 3, 4]
    assert [row.values["best_batch"] for row in rows] == [3, 3, 3]
    assert [round(row.values["sequences_per_s"]) for row in rows] == [100, 200, 50]


def test_the_long_form_has_whole_walks_too(reduced, two, monkeypatch):
    monkeypatch.setattr(offline, "FULL_BATCHES", (1,))
    rows = [*offline.rows(dataclasses.replace(reduced, full=True))]
    actual = {row.case.frames for row in rows if row.contender == "onnxruntime float32"}
    assert actual == {30, 90}


def embedder(name, encode, encoder):
    return Embedder(name, SimpleNamespace(encode=encode), lambda: ran_of(encoder.info))


def test_a_backend_with_wrong_or_no_answers_has_no_time(reduced, monkeypatch):
    encoder = load(reduced.folder, threads=1)

    def turned(silhouettes):
        actual = encoder.encode(silhouettes)
        return actual._replace(embedding=np.ascontiguousarray(actual.embedding[..., ::-1]))

    whole = {"turned": turned, "broken": raising(ModelError("the device is gone"))}
    actual = [embedder(name, encode, encoder) for name, encode in whole.items()]
    actual.append(Unavailable("absent", "not here"))
    monkeypatch.setattr(offline, "embedders", lambda context: iter(actual))
    rows = {row.contender: row for row in offline.rows(reduced)}
    assert rows["turned"].skipped.startswith("answers wrongly: cosine")
    assert not rows["turned"].check.ok
    assert (rows["broken"].skipped, rows["absent"].skipped) == ("the device is gone", "not here")
    assert not any(row.samples or row.values for row in rows.values())


def test_a_network_that_mixes_its_sequences_up_is_wrong(reduced, monkeypatch):
    encoder = load(reduced.folder, threads=1)

    def mixed(silhouettes):
        return encoder.encode(np.ascontiguousarray(silhouettes[::-1]))

    only = embedder("mixed", mixed, encoder)
    monkeypatch.setattr(offline, "embedders", lambda context: iter([only]))
    (row,) = offline.rows(reduced)
    assert not row.check.ok
