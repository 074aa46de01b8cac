"""Percentiles, summaries and records."""

import json

import pytest

from cstl_edge.measure import Samples, append_jsonl, environment, percentile, summary


def test_percentile_is_trtexecs():
    samples = [float(i) for i in range(1, 101)]
    assert [percentile(samples, q) for q in (50, 90, 99, 100)] == [50.0, 90.0, 100.0, 100.0]
    assert percentile([7.0], 99) == 7.0
    with pytest.raises(ValueError, match="at least one"):
        percentile([], 50)


def test_stages_keep_their_samples():
    samples = Samples()
    with samples.time("a"):
        pass
    samples.add("a", 3.0)
    assert samples.summary()["a"]["count"] == 2
    assert samples.by_stage["a"][1] == 3.0
    assert summary([1.0, 2.0, 3.0])["mean_ms"] == 2.0


def test_a_failing_block_is_timed_too():
    samples = Samples()

    def fail():
        with samples.time("a"):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert len(samples.by_stage["a"]) == 1


def test_records_are_lines(tmp_path):
    append_jsonl(tmp_path / "new" / "r.jsonl", {"name": "Zoë"})
    append_jsonl(tmp_path / "new" / "r.jsonl", environment())
    first, second = (tmp_path / "new" / "r.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(first) == {"name": "Zoë"}
    environment_keys = {"cpu", "vector", "cores", "commit", "packages"}
    assert environment_keys <= set(json.loads(second))
