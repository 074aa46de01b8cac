"""Scenario `cold_start`: `cstl-edge identify` on a clip of 2 s, from cold in a fresh process.

Row `identify, 2 s clip`: the command as a user types it; `samples` `wall`. Row `where it goes`: the
same work by `bench.cold_child`, which reports its phases: `interpreter`, `imports`, `model` (check
and sessions), `segmenter_and_source`, `gallery`, `background` (learnt from the clip, but for what
is done while the gallery opens), `walks` (the frames), `search`; `wall` is their sum and the end of
the process. The files are in the cache of the system: cold is the
process, not the disk. The gallery has 20 people drawn at random.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from cstl_edge.bench.context import Context
from cstl_edge.bench.record import Case, Row
from cstl_edge.errors import DataError, one_line
from cstl_edge.extras import missing_package
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.measure.conditions import host_monitor
from cstl_edge.measure.warnings import measurement_warnings
from cstl_edge.runtime import load

CLIP = "walk.mp4"
FROM_S, SECONDS = 3.0, 2.0  # of the shipped clip: somebody walks
RUNS, SHORT_RUNS = 5, 1
PEOPLE, TEMPLATES = 20, 4
LIMIT_S = 120.0  # of one run


def rows(context: Context) -> Iterator[Row]:
    """Yield the row of the command, and of its phases."""
    try:
        import cv2  # noqa: F401
    except ImportError as err:
        raise missing_package("the live path needs cv2", "cv") from err
    runs = SHORT_RUNS if context.short else RUNS
    with tempfile.TemporaryDirectory() as folder:
        clip, gallery = Path(folder) / "clip.avi", Path(folder) / "people.db"
        cut_clip(clip)
        _make_gallery(gallery)
        command = [sys.executable, "-m", "cstl_edge", "identify", str(clip)]
        command += ["--gallery", str(gallery)]
        child = [sys.executable, "-m", "cstl_edge.bench.cold_child", str(clip), str(gallery)]
        child.append(".".join(("cstl_edge", "cli", "app")))  # by name: it is above the suite
        yield _row(context, "identify, 2 s clip", command, runs, phases=False)
        yield _row(context, "where it goes", child, runs, phases=True)


def cut_clip(path: Path) -> None:
    """Write two seconds of the shipped clip as a video file."""
    import cv2

    with as_file(files("cstl_edge") / "assets" / CLIP) as whole:
        video = cv2.VideoCapture(str(whole))
        fps = video.get(cv2.CAP_PROP_FPS)
        size = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
        out = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, size)
        for number in range(round((FROM_S + SECONDS) * fps)):
            more, frame = video.read()
            if not more:
                break
            if number >= FROM_S * fps:
                out.write(frame)
        out.release()
        video.release()


def _make_gallery(path: Path) -> None:
    """Enroll people who were drawn at random in the shipped model's gallery."""
    rng = np.random.default_rng(0)
    with closing(load()) as encoder, Gallery.open(path, model=encoder) as gallery:
        info = encoder.info
        for number in range(PEOPLE):
            drawn = rng.normal(size=(TEMPLATES, info.parts, info.embedding)).astype(np.float32)
            gallery.enroll(f"person {number}", drawn, consent="nobody real", force=True)


def _row(context: Context, name: str, command: list[str], runs: int, *, phases: bool) -> Row:
    """Run a command some times in fresh processes; return its row.

    Args:
        context: Context of the call.
        name: Of the row.
        command: Program and arguments.
        runs: How often.
        phases: Whether it takes the time of its start and prints its phases.
    """
    context.progress(f"cold_start: {name}")
    samples: dict[str, list[float]] = {"wall": []}
    monitor = host_monitor()
    monitor.begin()
    for _ in range(runs):
        more = [repr(time.time())] if phases else []
        start = time.perf_counter()
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=LIMIT_S)
        wall_ms = (time.perf_counter() - start) * 1e3
        if done.returncode:
            reason = one_line(done.stderr.strip()[-300:])
            return context.row("cold_start", name, skipped=f"exit code {done.returncode}: {reason}")
        samples["wall"].append(wall_ms)
        for phase, ms in _phases(done.stdout).items() if phases else ():
            samples.setdefault(phase, []).append(ms)
    conditions = monitor.end()
    return context.row(
        "cold_start",
        name,
        case=Case(source=f"{CLIP}, {SECONDS:g} s"),
        samples=samples,
        values={"seconds_p50": float(np.median(samples["wall"])) / 1e3},
        conditions=conditions,
        warnings=measurement_warnings({"latency": samples["wall"]}, None, conditions),
    )


def _phases(stdout: str) -> dict[str, float]:
    """Return the milliseconds by phase that a child has printed last."""
    try:
        phases: dict[str, float] = json.loads(stdout.strip().splitlines()[-1])
    except (ValueError, IndexError) as err:
        raise DataError(f"expected phases as JSON; got {one_line(stdout[-200:])}") from err
    return phases
