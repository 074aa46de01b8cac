"""Uploaded videos: decoded and embedded by a child process, so that no file hurts the recogniser.

The child writes the walks to a file in the spool folder; the recogniser ends it with itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from cstl_edge.errors import CstlEdgeError, DataError, one_line
from cstl_edge.gallery.match import SeenWalk
from cstl_edge.live.events import utc_text
from cstl_edge.live.pipeline.options import TrackRecord
from cstl_edge.serve.kept_walks import KeptWalk
from cstl_edge.serve.messages import now
from cstl_edge.serve.service_data import RefusedError

TIMEOUT_S = 270.0  # for a video
MAX_WALKS = 32
MAX_JOBS = 2
CAMERA = "upload"  # the camera of uploaded walks has no name and no mean: not passed on


@dataclass(frozen=True)
class RecordedTrack:
    """A walk in an uploaded video."""

    track: int
    frames: int
    account: str
    walk: KeptWalk
    started_s: float | None
    ended_s: float | None


Found = Callable[[list[RecordedTrack]], None]
Failed = Callable[[CstlEdgeError], None]


@dataclass
class _Job:
    process: subprocess.Popen[bytes]
    result: Path
    errors: IO[bytes]
    ends_s: float
    found: Found
    failed: Failed


class Recordings:
    """The videos that are looked at now."""

    def __init__(self, spool: Path, model: Path | None, segmenter: str) -> None:
        """Prepare.

        Args:
            spool: Folder for results.
            model: Model to embed with, None for the shipped one.
            segmenter: How people are found.
        """
        self._spool, self._model, self.segmenter = spool, model, segmenter
        self._jobs: list[_Job] = []

    def start(self, video: Path, found: Found, failed: Failed) -> None:
        """Look at a video; one of the two is called by a later `poll`.

        Args:
            video: In the spool folder.
            found: Given the walks, the longest first.
            failed: Given what went wrong.

        Raises:
            RefusedError: The file is elsewhere, or there are too many at once.
        """
        if not video.resolve().is_relative_to(self._spool.resolve()) or not video.is_file():
            raise RefusedError("not-found", "the uploaded file is not there")
        if len(self._jobs) >= MAX_JOBS:
            raise RefusedError("busy", "other videos are being looked at: try again in a minute")
        result = self._spool / f"walks-{secrets.token_hex(8)}.npz"
        errors = (self._spool / f"{result.stem}.txt").open("w+b")
        model = "" if self._model is None else str(self._model)
        code = "import sys; from cstl_edge.serve.recordings import main; main(*sys.argv[1:])"
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(video), model, self.segmenter, str(result)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        ends_s = time.monotonic() + TIMEOUT_S
        self._jobs.append(_Job(process, result, errors, ends_s, found, failed))

    def poll(self) -> None:
        """Report the videos that are done."""
        for job in list(self._jobs):
            if job.process.poll() is None:
                if time.monotonic() > job.ends_s:
                    job.process.kill()
                continue
            self._jobs.remove(job)
            try:
                found = self._read(job)
            except CstlEdgeError as err:
                job.failed(err)
            else:
                job.found(found)
            finally:
                self._clean(job)

    def close(self) -> None:
        """End all of them."""
        for job in self._jobs:
            job.process.kill()
            job.process.wait()
            self._clean(job)
        self._jobs = []

    def _read(self, job: _Job) -> list[RecordedTrack]:
        if job.process.returncode != 0:
            job.errors.seek(0)
            lines = job.errors.read().decode("utf-8", "replace").strip().splitlines()
            with contextlib.suppress(IndexError, ValueError, KeyError, TypeError):
                record = json.loads(lines[-1])
                raise DataError(record["message"], remedy=record["remedy"])
            if job.process.returncode < 0:
                raise DataError("the video takes too long or too much memory: cut it shorter")
            raise DataError("the video cannot be looked at", remedy="try another file")
        return read_tracks(job.result)

    @staticmethod
    def _clean(job: _Job) -> None:
        job.errors.close()
        for path in (job.result, job.result.with_suffix(".txt")):
            with contextlib.suppress(OSError):
                path.unlink()


def write_tracks(records: list[TrackRecord], path: Path) -> None:
    """Write tracks to a file.

    Args:
        records: Tracks with embeddings.
        path: File to write.
    """
    chosen = records[:MAX_WALKS]
    facts = [
        {
            "track": record.track,
            "frames": record.frames,
            "account": record.account,
            "view": record.view,
            "frames_per_second": record.frames_per_second,
            "started_s": record.started_s,
            "ended_s": record.ended_s,
        }
        for record in chosen
    ]
    arrays: dict[str, Any] = {f"walk{n}": record.embeddings for n, record in enumerate(chosen)}
    np.savez(path, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)


def read_tracks(path: Path) -> list[RecordedTrack]:
    """Return the tracks that `write_tracks` wrote."""
    tracks = []
    with np.load(path, allow_pickle=False) as arrays:
        moment = utc_text(now())
        for n, facts in enumerate(json.loads(arrays["facts"].tobytes())):
            seen = SeenWalk.of_windows(arrays[f"walk{n}"])
            walk = KeptWalk(
                camera=CAMERA,
                number=facts["track"],
                started_utc=moment,
                ended_utc=moment,
                mean=seen.mean,
                windows=seen.windows,
                seen=seen.seen,
                view=facts["view"],
                frames_per_second=facts["frames_per_second"],
            )
            tracks.append(
                RecordedTrack(
                    facts["track"],
                    facts["frames"],
                    facts["account"],
                    walk,
                    facts["started_s"],
                    facts["ended_s"],
                )
            )
    return tracks


def main(video: str, model: str, segmenter: str, result: str) -> None:
    """Look at a video and write its walks: the child.

    Args:
        video: File.
        model: Exported folder; empty for the shipped one.
        segmenter: How people are found.
        result: File to write.
    """
    from cstl_edge.live.pipeline.collect import collect
    from cstl_edge.live.pipeline.options import PipelineOptions
    from cstl_edge.runtime.load import load

    try:
        encoder = load(model or None, threads=1)
        records: list[Any] = collect(video, encoder, PipelineOptions(segmenter=segmenter))
        write_tracks(records, Path(result))
    except CstlEdgeError as err:
        name = Path(video).name
        record = {key: value.replace(video, "the video").replace(name, "the video")
                  for key, value in (("message", err.message), ("remedy", err.remedy))}  # fmt: skip
        sys.stderr.write("\n" + json.dumps(record) + "\n")
        sys.exit(err.exit_code)
    except Exception as err:  # a decoder's fault is the file's
        sys.stderr.write(
            "\n" + json.dumps({"message": one_line(err), "remedy": "try another file"})
        )
        sys.exit(DataError.exit_code)
