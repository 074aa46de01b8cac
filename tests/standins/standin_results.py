"""Rows as `cstl-edge bench` writes them, from a seeded generator instead of a machine."""

import importlib.util

import numpy as np
import pytest

from cstl_edge.bench.record import Case, Check, ModelUnderTest, Ran, Row

SUBJECT = ModelUnderTest(
    name="shipped", weights_sha256="a" * 64, size=(64, 44), parts=32, widths=(16, 32, 64, 64)
)
MACHINE = {
    "cpu": "AMD EPYC-Test", "vector": "avx512f", "cores": 2, "system": "Linux x86_64",
    "load_1min": 0.3, "python": "3.11.2", "packages": {"onnxruntime": "1.32.0"},
    "commit": "0123456789ab", "utc": "2026-11-25T03:00:00Z",
}  # fmt: skip
CONTENDERS = {  # median [ms] of a whole window
    "pytorch float32": 49.0,
    "pytorch float32, compiled": 38.0,
    "onnxruntime float32": 17.0,
    "onnxruntime float16": 19.0,
    "onnxruntime int8": 9.1,
    "openvino float32": 16.2,
    "openvino bfloat16": 8.4,
    "openvino int8": 7.0,
}
GRAPHS = {("frames", 1, None): 0.04, ("head", 1, 30): 0.3, ("full", 1, 30): 1.0}


def samples(median_ms, count=400, seed=0, spread=0.04):
    """Return durations with a tail to the right, as machines give them."""
    rng = np.random.default_rng(seed)
    tail = rng.exponential(spread * median_ms, count) * (rng.random(count) < 0.2) * 3
    drawn = median_ms * np.exp(rng.normal(0, spread, count)) + tail
    return [round(float(x), 4) for x in drawn]


def ran(contender):
    backend, precision = contender.replace(",", "").split(" ")[:2]
    computed = "float32" if precision == "float16" else precision
    options = {"compiled": "yes"} if "compiled" in contender else {}
    return Ran(backend=backend, provider="cpu", precision=precision, computed_in=computed,
               version="1.0", threads=2, options=options)  # fmt: skip


def row(scenario="graph", contender="onnxruntime float32", *, run="r1", environment=None, **more):
    """Return a row with all that every row has."""
    given = {"ran": ran(contender), "subject": SUBJECT} | more
    machine = {**MACHINE, **(environment or {})}
    return Row(run=run, scenario=scenario, contender=contender, environment=machine, **given)


def graph_rows(scale=1.0, seed=0, **more):
    """Return what scenario `graph` gives: every contender for every graph."""
    for k, ((graph, batch, frames), share) in enumerate(GRAPHS.items()):
        for j, (contender, window_ms) in enumerate(CONTENDERS.items()):
            taken = samples(window_ms * share * scale, seed=seed + 100 * k + j)
            yield row(
                contender=contender,
                case=Case(graph=graph, batch=batch, frames=frames),
                samples={"wall": taken},
                check=Check(reference="pytorch float32", cosine=0.999, max_abs=1e-3, ok=True),
                **more,
            )


needs_bench = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("jinja2", "matplotlib", "scipy")),
    reason="needs the extra bench",
)
