"""Uploads of videos: limited while they arrive, written to the spool folder; never decoded here.

What is decoded is decoded by a child process of the recogniser, as every recording is.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from cstl_edge.errors import StorageError
from cstl_edge.output import PRIVATE
from cstl_edge.serve.web.problems import ProblemError
from cstl_edge.serve.web.settings import MIB

HEAD_BYTES = 16
MIN_FREE_BYTES = 256 * MIB  # of the disk, beyond the upload
MIN_BYTES_PER_S = 16 * 1024  # slower than that is no upload but a connection that is held
GRACE_S = 20.0
AT_ONCE = threading.BoundedSemaphore(2)


@contextlib.asynccontextmanager
async def received_video(request: Request, spool: Path, limit_mb: int) -> AsyncIterator[Path]:
    """Give the file of an uploaded video, which goes with the block.

    Args:
        request: Its body is the video.
        spool: Folder that service and recogniser share.
        limit_mb: Largest upload [MiB].

    Raises:
        ProblemError: It is too large, too slow, no video, or the disk is full.
    """
    limit = limit_mb * MIB
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise too_large(limit_mb)
    if not AT_ONCE.acquire(blocking=False):
        raise ProblemError(503, "busy", "Two videos are arriving already; try again soon.")
    path = spool / f"upload-{secrets.token_hex(12)}.video"
    try:
        await _write(request, path, limit, limit_mb)
        yield path
    finally:
        AT_ONCE.release()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


async def _write(request: Request, path: Path, limit: int, limit_mb: int) -> None:
    """Write the body to a file, looking at its size, speed and first bytes as they come."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if shutil.disk_usage(path.parent).free < MIN_FREE_BYTES:
        raise ProblemError(507, "full", "The disk of the service is full.")
    began, size, head = time.monotonic(), 0, b""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    try:
        with os.fdopen(handle, "wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise too_large(limit_mb)
                if len(head) < HEAD_BYTES:
                    head += chunk[: HEAD_BYTES - len(head)]
                    if len(head) == HEAD_BYTES:
                        check_container(head)
                elapsed = time.monotonic() - began
                if elapsed > GRACE_S and size < elapsed * MIN_BYTES_PER_S:
                    raise ProblemError(408, "too-slow", "The upload is too slow.")
                await run_in_threadpool(file.write, chunk)
    except OSError as err:
        raise StorageError.of("the uploaded video", err) from err
    except ClientDisconnect as err:
        raise ProblemError(400, "aborted", "The upload was aborted.") from err
    check_container(head)


def check_container(head: bytes) -> None:
    """Refuse what begins like no video file (ProblemError)."""
    mp4, webm = head[4:8] == b"ftyp", head[:4] == b"\x1a\x45\xdf\xa3"
    avi = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    if not (mp4 or webm or avi):
        raise ProblemError(
            415, "no-video", "Expected a video file.", "MP4, MOV, WebM, MKV and AVI are read."
        )


def too_large(limit_mb: int) -> ProblemError:
    """Return the answer to an upload beyond the limit."""
    return ProblemError(
        413,
        "too-large",
        f"Expected a video of at most {limit_mb} MiB.",
        "page.max_upload_mb of the site sets the limit.",
    )
