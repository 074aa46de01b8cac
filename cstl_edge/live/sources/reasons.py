"""What FFmpeg reports, in our words."""

from __future__ import annotations

import errno
import re

BY_STATUS = {
    400: "the server does not understand the request (400 Bad Request)",
    401: "the server refuses the user name or password (401 Unauthorized)",
    403: "the server forbids this stream to this user (403 Forbidden)",
    404: "the server has no such stream (404 Not Found)",
    429: "the server takes no more requests for now (429 Too Many Requests)",
    454: "the server has ended the session (454 Session Not Found)",
    503: "the server is not ready (503 Service Unavailable)",
}
BY_ERRNO = {
    errno.ETIMEDOUT: "it stopped answering",
    errno.ECONNREFUSED: "the connection is refused: nothing listens at that port",
    errno.ECONNRESET: "the other side broke the connection",
    errno.EPIPE: "the other side broke the connection",
    errno.EHOSTUNREACH: "there is no way to that machine",
    errno.ENETUNREACH: "there is no way to that network",
    errno.EACCES: "access is denied",
    errno.EIO: "the connection broke",
}
NO_FILE = "it is no video that FFmpeg can read, or it was cut off"
NO_VIDEO = "what it sends is no video that can be read"
STATUS = re.compile(r"(?:returned|failed:|HTTP error|status code)\D{0,12}([45]\d\d)\b")


def stream_reason(number: int | None, text: str) -> str:
    """Return the reason of a failure.

    Args:
        number: FFmpeg's error number: an errno, or one of its own tags.
        text: FFmpeg's words, where a status of HTTP or RTSP may stand.

    >>> stream_reason(None, "Server returned 404 Not Found")
    'the server has no such stream (404 Not Found)'
    """
    if status := STATUS.search(text):
        code = int(status.group(1))
        return BY_STATUS.get(code, f"the server answers with an error ({code})")
    if "5XX" in text:
        return "the server has a fault of its own (5xx)"
    if "timed out" in text.lower() or "immediate exit" in text.lower():
        return BY_ERRNO[errno.ETIMEDOUT]
    if number is not None and number in BY_ERRNO:
        return BY_ERRNO[number]
    return "the stream ended" if "end of file" in text.lower() else NO_VIDEO
