"""Scenario `segment`: what it costs to find and mask people, frame by frame and crop by crop.

A street of 640×360 that walkers cross together, drawn beforehand. A row per segmenter, each frame
timed once with the tracker's expected boxes, on all threads, as in a recording: everybody is
masked; `paced` rows mask a walker as often as the pipeline does by default. Only frames with
somebody in them count. The shipped person network on one crop and one thread, and on several.

`samples`: `wall`, of a frame or of a call. `values`: `people_in_view` (mean), `ms_per_person`, or
`ms_per_crop`; of the network `gmacs` and `gbytes` of one crop (inputs, weights, outputs).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from typing import Any

import numpy as np

from cstl_edge.arrays import Image
from cstl_edge.bench.context import Context
from cstl_edge.bench.record import Case, Ran, Row
from cstl_edge.bench.roofline.op_count import count_cost
from cstl_edge.bench.scenarios import synthetic_street
from cstl_edge.errors import CstlEdgeError
from cstl_edge.extras import missing_package
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.pipeline.pace import MaskPace
from cstl_edge.live.segmentation.open import SEGMENTERS, open_segmenter
from cstl_edge.live.tracking.tracker import Tracker
from cstl_edge.measure.conditions import host_monitor
from cstl_edge.measure.timing import measure
from cstl_edge.measure.warnings import measurement_warnings
from cstl_edge.runtime.masks.base import MaskNetwork
from cstl_edge.runtime.masks.open import open_mask_network

WALKERS, SHORT_WALKERS = 8, 2
SHORT_FRAMES = 60  # of the street, the empty beginning among them
FPS = 25.0
LEARN_EVERY = 4  # frames between two samples of the scene
MANY_CROPS = 4
NETWORK = "person_mask.onnx"


def rows(context: Context) -> Iterator[Row]:
    """Yield a row per segmenter, then per number of crops."""
    try:
        import cv2  # noqa: F401
    except ImportError as err:
        raise missing_package("segmentation needs cv2", "cv") from err
    walkers = SHORT_WALKERS if context.short else WALKERS
    context.progress(f"segment: drawing a street of {walkers}")
    frames = synthetic_street.draw_street(walkers)
    frames = frames[: SHORT_FRAMES if context.short else None]
    for name in SEGMENTERS:
        for pace in (None, PipelineOptions().walker_fps):
            if pace is None or name != "background":  # whose cost does not hang on it
                yield _row(context, name, frames, walkers, pace)
    yield from _network_rows(context)


def _row(
    context: Context, name: str, frames: list[Image], walkers: int, walker_fps: float | None
) -> Row:
    """Return the row of one segmenter.

    Args:
        context: Context of the call.
        name: Of the segmenter.
        frames: Pictures of the street.
        walkers: Who cross it.
        walker_fps: Masks of a walker per second; None: in every frame.
    """
    contender = name if walker_fps is None else f"{name}, paced {walker_fps:g} per second"
    context.progress(f"segment: {contender}")
    case = Case(walkers=walkers, source=synthetic_street.street_uri(walkers))
    monitor = host_monitor()
    monitor.begin()
    try:
        wall_ms, in_view = _segmented(name, frames, context.threads, walker_fps)
    except CstlEdgeError as err:
        return context.row("segment", contender, case=case, skipped=str(err))
    conditions, people = monitor.end(), float(np.mean(in_view)) if in_view else 0.0
    values = {"people_in_view": people}
    if people:
        values["ms_per_person"] = float(np.mean(wall_ms)) / people
    return context.row(
        "segment",
        contender,
        case=case,
        samples={"wall": wall_ms},
        values=values,
        conditions=conditions,
        warnings=measurement_warnings({"latency": wall_ms}, None, conditions),
    )


def _segmented(
    name: str, frames: list[Image], threads: int, walker_fps: float | None
) -> tuple[list[float], list[int]]:
    """Return the milliseconds of each frame with somebody in it, and how many are in view.

    Args:
        name: Of the segmenter.
        frames: Pictures of the street.
        threads: That it may use.
        walker_fps: Masks of a walker per second; None: in every frame.
    """
    segmenter = open_segmenter(name, threads=threads)
    segmenter.learn((frames[i], frames[i + 2]) for i in range(0, len(frames) - 2, LEARN_EVERY))
    tracker, pace = Tracker(), MaskPace(walker_fps, 0)
    rest = getattr(segmenter, "rest", None)
    wall_ms, in_view = list[float](), list[int]()
    for number, frame in enumerate(frames):
        time_s = number / FPS
        expected = tracker.expected_people(time_s)
        due = pace.due(expected, time_s)
        start = time.perf_counter()
        if rest is not None:
            rest([box for track, box in expected.items() if track not in due])
        detections = segmenter.segment(frame, time_s, list(expected.values()))
        elapsed_ms = (time.perf_counter() - start) * 1e3
        update = tracker.update(detections, time_s, (frame.shape[0], frame.shape[1]))
        for track in update.active:
            if track.id in due:
                pace.take(track.id, time_s, usable=True)
        if detections:
            wall_ms.append(elapsed_ms)
            in_view.append(len(detections))
    return wall_ms, in_view


def _network_rows(context: Context) -> Iterator[Row]:
    """Yield the rows of the person network, one thread."""
    budget, rng = context.budget, np.random.default_rng(0)
    for count, threads in ((1, 1), (MANY_CROPS, context.threads)):
        try:
            network, cost = open_mask_network(None, threads=threads), _cost()
        except CstlEdgeError as err:
            yield context.row("segment", "person network", skipped=str(err))
            return
        context.progress(f"segment: person network, {count} crops")
        crops = rng.integers(0, 256, (count, network.side, network.side, 3), np.uint8)
        timing = measure(
            partial(_run, network, crops),
            warm_up_s=budget.warm_up_s,
            seconds=budget.seconds,
            samples=budget.samples,
        )
        wall = timing.samples["wall"]
        values = {"ms_per_crop": float(np.median(wall)) / count} if wall else {}
        yield context.row(
            "segment",
            f"person network, {count} crop{'s' * (count > 1)}",
            ran=_ran(threads),
            samples=timing.samples,
            values=values | cost,
            dropped=timing.dropped,
            conditions=timing.conditions,
            warnings=timing.warnings,
            details={"kind": "network", "crops": count},
        )
        network.close()


def _run(network: MaskNetwork, crops: Image) -> None:
    """Mask crops."""
    network(crops)


def _cost() -> dict[str, float]:
    """Return the multiply-adds [10⁹] and the least bytes [10⁹] of one crop."""
    import onnx

    data = (files("cstl_edge") / "assets" / NETWORK).read_bytes()
    model = onnx.load_model_from_string(data)
    inputs = {
        value.name: [max(1, d.dim_value) for d in value.type.tensor_type.shape.dim]
        for value in model.graph.input
    }
    cost = count_cost(model, inputs)
    return {"gmacs": cost.total_macs / 1e9, "gbytes": cost.least_bytes / 1e9}


def _ran(threads: int) -> Ran:
    import onnxruntime

    fields: dict[str, Any] = {"precision": "float32", "computed_in": "float32", "threads": threads}
    version = onnxruntime.__version__
    return Ran(backend="onnxruntime", provider="CPUExecutionProvider", version=version, **fields)
