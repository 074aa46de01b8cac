"""The text of /metrics: promtool's lint, edges, counters over restarts, no names."""

import shutil
import subprocess

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families
from standin_metrics import NOW, full_registry, stats

from cstl_edge.serve.messages import ProcessState, ServiceState
from cstl_edge.serve.outputs.metrics import COUNTS, VALUES, MetricsRegistry


def samples(registry):
    """(name, labels) -> value"""
    text = registry.render()[0].decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(registry, name, **labels):
    return samples(registry)[f"cstl_edge_{name}", tuple(sorted(labels.items()))]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian: prometheus) is missing")
def test_promtool_finds_no_fault():
    text, content_type = full_registry().render()
    assert content_type.startswith("text/plain")
    lint = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60
    )
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, b"")


def test_every_metric_of_the_tables_is_there():
    names = {name for name, _ in samples(full_registry())}
    for name, family in {**VALUES, **COUNTS}.items():
        suffix = "_total" if name.endswith("_total") else ""
        assert f"cstl_edge_{family.name}{suffix}" in names
    assert not [name for name in names if name.endswith("_created")]


def test_a_counter_goes_on_when_its_process_is_restarted():
    registry = MetricsRegistry()
    for pid, frames in ((1, 10), (1, 25), (2, 5), (2, 30)):
        registry.feed(stats("camera:door", {"frames_total": frames, "pid": pid}))
    assert value(registry, "camera_frames_total", camera="door") == 55
    registry.feed(stats("camera:yard", {"frames_total": 7}))  # without a pid: smaller is anew
    registry.feed(stats("camera:yard", {"frames_total": 3}))
    assert value(registry, "camera_frames_total", camera="yard") == 10


def test_200_ms_is_an_edge_and_belongs_to_its_bucket():
    registry = MetricsRegistry()
    registry.feed(stats("camera:door", samples_ms={"frame_age": (199.0, 200.0, 201.0, 9000.0)}))
    bucket = "frame_age_seconds_bucket"
    assert value(registry, bucket, camera="door", le="0.2") == 2
    assert value(registry, bucket, camera="door", le="0.5") == 3
    assert value(registry, bucket, camera="door", le="+Inf") == 4
    assert value(registry, "frame_age_seconds_sum", camera="door") == pytest.approx(9.6)


def test_no_name_of_a_person_and_nothing_unknown_gets_in():
    registry = full_registry()
    registry.feed(stats("front", {"Ada": 1.0, "queue_Ada!": 1.0}, {"Ada's walk": (1.0,)}))
    registry.feed(stats("recogniser", counts={"people": {("Ada",): 1.0}, "answers_total": {(): 1}}))
    assert b"Ada" not in registry.render()[0]


def test_a_camera_that_is_gone_leaves_no_series():
    registry = full_registry()
    registry.feed_service(ServiceState(NOW, (ProcessState("camera:yard", "running"),), {}))
    text = registry.render()[0]
    assert b"door" not in text
    assert b'process="supervisor"' in text


def test_outputs_are_told_with_their_queue_and_drops():
    registry = full_registry()
    assert value(registry, "output_queue_length", output="mqtt") == 3
    assert value(registry, "output_messages_dropped_total", output="mqtt", reason="old") == 2
