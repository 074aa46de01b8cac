"""Run the service under load: late frames, drops, CPU, and memory of every process.

python benchmarks/serve/load.py --seconds 300 --out load.jsonl
python benchmarks/serve/load.py --segmenter person-mask --cameras 1 --out load.jsonl
python benchmarks/serve/load.py --clients 0 --browser --out load.jsonl
python benchmarks/serve/load.py --frames 300000 --fps 25 --size 320x180 --out load.jsonl  # memory

Synthetic cameras with two people each who cross the street again and again, and clients that read
the wall of all cameras. A frame's age is the time from reading it until its observation is handed
to the recogniser, as `/metrics` counts it; what was dropped before is told apart. Memory is what is
allocated, without pages of files; its slope is that of a straight line through the second half of
the run. Exit 1 where more than 1 % of the frames are older than 200 ms, more than 1 % were dropped,
or a process grows by more than 1 MB per 100,000 frames (told only where the run was long enough,
20,000 frames).
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.measure.environment import environment
from cstl_edge.output import append_line
from cstl_edge.serve.outputs.metrics import EDGES_S
from cstl_edge.silhouette import MIN_HEIGHT_PX

sys.path.insert(0, str(Path(__file__).parents[1]))
from serving.browser import Browser
from serving.running import TOKEN, Samples, Service, rows, value
from serving.viewers import Viewers

LATE_S = 0.2
FULL_HEIGHT = 360  # of a picture: people in a smaller one count down to a smaller size
EDGES = (*(str(edge) for edge in EDGES_S), "+Inf")  # of histograms
ANONYMOUS = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)
LIMIT_SHARE = 0.99
LIMIT_MB = 1.0  # per 100,000 frames
LEAST_FRAMES = 20_000  # of a slope that means something
SECONDS = 120.0
LOOK_S = 5.0
LOOKS_KEPT = 100  # in the row
WARM_UP_S = 20.0  # the segmenter learns, caches fill


def main() -> int:
    """Run once and print what was measured."""
    args = arguments(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="cstl_edge_load_") as folder:
        row = measure(Path(folder), args)
    print_row(row)
    if args.out:
        append_line(args.out, row)
    return 0 if row["passed"] else 1


def arguments(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--people", type=int, default=2, help="per camera")
    parser.add_argument("--fps", type=float, default=10)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--segmenter", default="background")
    parser.add_argument("--clients", type=int, default=3, help="that read the wall")
    parser.add_argument("--browser", action="store_true", help="a real one shows the wall, too")
    parser.add_argument("--seconds", type=float, help="at most; 120 without --frames")
    parser.add_argument("--frames", type=int, help="of all cameras together, at most")
    parser.add_argument("--warm-up", type=float, default=WARM_UP_S, help="seconds")
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    return parser.parse_args(words)


def site(args: argparse.Namespace) -> dict[str, Any]:
    """Return the site: cameras, all that is kept, nothing that is told."""
    height = int(args.size.lower().partition("x")[2])
    source = "synthetic://{people}?seed={seed}&fps={fps:g}&size={size}&dense=1&live=1&loop=1"
    cameras = {
        f"c{n}": {
            "source": source.format(people=args.people, seed=n, fps=args.fps, size=args.size),
            "min_height_px": max(16, round(MIN_HEIGHT_PX * height / FULL_HEIGHT)),
        }
        for n in range(args.cameras)
    }
    return {
        "segmenter": args.segmenter,
        "cameras": cameras,
        "keep": {"unknowns": {"enabled": True}, "max_gb": 1, "min_free_gb": 0.1},
    }


def measure(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Run the service under load and return the row.

    folder: for site and data
    args: of the command line
    """
    with Service(folder, site(args)) as service:
        service.wait_ready()
        names = [f"c{n}" for n in range(args.cameras)]
        viewers = Viewers(service.port, TOKEN, names, args.clients)
        address = f"http://127.0.0.1:{service.port}/?token={TOKEN}"
        browser = Browser(address) if args.browser else None
        time.sleep(args.warm_up)
        if browser is not None:
            browser.begin()
        first, began_s = service.metrics(), time.monotonic()
        looks = [(frames_of(first), memory_of(service))]
        while not _over(looks[-1][0] - looks[0][0], time.monotonic() - began_s, args):
            time.sleep(LOOK_S)
            with contextlib.suppress(RuntimeError):  # no answer: all of it was stopped for a while
                looks.append((frames_of(service.metrics()), memory_of(service)))
        seconds = time.monotonic() - began_s
        last = service.metrics()
        browser_cores = None if browser is None else round(browser.end(), 3)
        watched = viewers.end()
        ended_s, code = service.stop()
    row = {
        "scenario": "serve_load",
        **{key: getattr(args, key) for key in ("cameras", "people", "fps", "size", "segmenter")},
        "seconds": round(seconds, 1),
        **figures(first, last, seconds),
        "resident_mb": {
            name: round(size / 1e6, 1)
            for name, size in rows(last, "process_resident_memory_bytes").items()
        },
        "memory_mb": {name: round(mb, 1) for name, mb in looks[-1][1].items()},
        "memory_slope_mb_per_100k_frames": slopes(looks),
        "memory_by_frames": [
            {"frames": int(frames), **{name: round(mb, 2) for name, mb in memory.items()}}
            for frames, memory in looks[:: max(1, len(looks) // LOOKS_KEPT)]
        ],
        "viewers": watched,
        "browser_cores": browser_cores,
        "page_clients": value(last, "page_clients"),
        "end": {"seconds": round(ended_s, 2), "exit_code": code},
        "environment": environment(),
    }
    return {**row, "passed": passed(row)}


def _over(frames: float, seconds: float, args: argparse.Namespace) -> bool:
    most_s = args.seconds or (None if args.frames else SECONDS)
    return bool((args.frames and frames >= args.frames) or (most_s and seconds >= most_s))


def frames_of(samples: Samples) -> float:
    """Return the frames of all cameras."""
    return sum(rows(samples, "camera_frames_total").values())


def memory_of(service: Service) -> dict[str, float]:
    """Return the memory that each process has allocated [MB].

    Resident memory holds pages of files too, which the kernel takes and gives as it likes.
    """
    found = {}
    for name, process in service.processes().items():
        with contextlib.suppress(OSError):  # it has just ended
            status = Path(f"/proc/{process['pid']}/status").read_text(encoding="ascii")
            found[name] = int(ANONYMOUS.findall(status)[0]) * 1024 / 1e6
    return found


def figures(first: Samples, last: Samples, seconds: float) -> dict[str, Any]:
    """Return what happened between two looks.

    Args:
        first: Metrics at the beginning.
        last: Metrics at the end.
        seconds: Between the two.
    """

    def grown(name: str, **labels: str) -> float:
        return value(last, name, **labels) - value(first, name, **labels)

    cameras = sorted(rows(last, "camera_frames_total"))
    counted = sum(grown("frame_age_seconds_count", camera=c) for c in cameras)
    in_time = sum(grown("frame_age_seconds_bucket", camera=c, le=str(LATE_S)) for c in cameras)
    done = sum(grown("camera_frames_total", camera=c) for c in cameras)
    dropped = sum(grown("camera_frames_dropped_total", camera=c) for c in cameras)
    unheard = sum(grown("camera_observations_dropped_total", camera=c) for c in cameras)
    cpu = {
        name: round(grown("process_cpu_seconds_total", process=name) / seconds, 3)
        for name in sorted(rows(last, "process_cpu_seconds_total"))
    }
    return {
        "frames": int(done),
        "fps_per_camera": round(done / seconds / max(1, len(cameras)), 2),
        "frame_age_s": {
            edge: int(sum(grown("frame_age_seconds_bucket", camera=c, le=edge) for c in cameras))
            for edge in EDGES
        },
        "stages_s": stages(first, last),
        "share_within_200_ms": round(in_time / counted, 5) if counted else None,
        "frames_counted": int(counted),
        "share_dropped": round(dropped / (done + dropped), 5) if done else None,
        "observations_dropped": int(unheard),
        "cores": cpu,
        "restarts": int(sum(rows(last, "process_restarts_total").values())),
    }


def stages(first: Samples, last: Samples) -> dict[str, dict[str, float]]:
    """Return how long each stage of each kind of process took [s], and how often over 50 ms.

    first, last: metrics at beginning and end
    """
    found: dict[str, dict[str, float]] = {}
    for (name, labels), count in last.items():
        of = dict(labels)
        if name != "cstl_edge_stage_duration_seconds_count":
            continue
        before = value(first, "stage_duration_seconds_count", **of)
        seconds = value(last, "stage_duration_seconds_sum", **of)
        seconds -= value(first, "stage_duration_seconds_sum", **of)
        quick = value(last, "stage_duration_seconds_bucket", **of, le="0.05")
        quick -= value(first, "stage_duration_seconds_bucket", **of, le="0.05")
        row = found.setdefault(
            f"{of['process'].partition(':')[0]} {of['stage']}",
            {"count": 0.0, "sum": 0.0, "over_0.05": 0.0},
        )
        row["count"] += count - before
        row["sum"] = round(row["sum"] + seconds, 4)
        row["over_0.05"] += count - before - quick
    return found


def slopes(looks: list[tuple[float, dict[str, float]]]) -> dict[str, float | None]:
    """Return the growth of each process, through the second half [MB per 100,000 frames].

    looks: frames of all cameras, memory by process [MB]
    """
    half = looks[len(looks) // 2 :]
    frames = np.array([count for count, _ in half])
    found: dict[str, float | None] = {}
    for name in looks[-1][1]:
        sizes = np.array([memory.get(name, np.nan) for _, memory in half])
        enough = len(half) > 4 and np.ptp(frames) > 0 and np.isfinite(sizes).all()
        found[name] = round(float(np.polyfit(frames, sizes, 1)[0]) * 1e5, 3) if enough else None
    return found


def passed(row: dict[str, Any]) -> bool:
    """Tell whether a run is within the limits."""
    grows = [x for x in row["memory_slope_mb_per_100k_frames"].values() if x is not None]
    long_enough = row["frames"] >= LEAST_FRAMES
    return (
        (row["share_within_200_ms"] or 0.0) >= LIMIT_SHARE
        and (row["share_dropped"] or 0.0) <= 1 - LIMIT_SHARE
        and not (long_enough and any(x > LIMIT_MB for x in grows))
        and row["end"]["exit_code"] == 143
        and row["end"]["seconds"] <= 5
    )


def print_row(row: dict[str, Any]) -> None:
    """Print the row for people."""
    for key, content in row.items():
        if key not in ("environment", "memory_by_frames"):
            print(f"{key:34} {content}")


if __name__ == "__main__":
    sys.exit(main())
