"""Client of a running service: its REST by urllib, for `--server URL`; needs no extra.

The token comes from CSTL_EDGE_TOKEN or the file that CSTL_EDGE_TOKEN_FILE names. It goes to the
given address alone: redirects are not followed.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from cstl_edge.errors import (
    ConfigError,
    CstlEdgeError,
    DataError,
    GalleryError,
    SourceUnavailable,
    one_line,
)
from cstl_edge.foreign import read_bytes

TOKEN, TOKEN_FILE = "CSTL_EDGE_TOKEN", "CSTL_EDGE_TOKEN_FILE"
TIMEOUT_S = 30.0
UPLOAD_TIMEOUT_S = 330.0  # the service reads the video meanwhile
WAIT_S = 25.0  # of a call that waits for an event
MAX_ANSWER_BYTES = 2**26
ERROR_OF_STATUS: dict[int, type[CstlEdgeError]] = {
    401: ConfigError,
    403: ConfigError,
    404: GalleryError,
    408: SourceUnavailable,
    409: GalleryError,
    413: DataError,
    415: DataError,
    421: ConfigError,
    422: DataError,
    429: SourceUnavailable,
    507: GalleryError,
}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would take the token elsewhere."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Return nothing: the answer stays the redirect."""


class ServiceClient:
    """A running `cstl-edge serve`, by its address and a token."""

    def __init__(self, address: str, token: str | None = None) -> None:
        """Hold the address.

        Args:
            address: Of the page, such as http://127.0.0.1:8765.
            token: Of a user; by default from the environment.

        Raises:
            ConfigError: The address is none, or there is no token.
        """
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"--server: expected an address such as http://127.0.0.1:8765; "
                f"got {one_line(address.partition('?')[0])}"
            )
        given = dict(p.split("=", 1) for p in parts.query.split("&") if "=" in p).get("token")
        self.address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self._token = token or given or _token()
        self._opener = urllib.request.build_opener(_NoRedirects())

    def people(self) -> list[dict[str, Any]]:
        """Return who is enrolled."""
        people: list[dict[str, Any]] = self._call("GET", "/people")["people"]
        return people

    def enroll(self, name: str, consent: str, video: Path, *, add: bool = False) -> dict[str, Any]:
        """Enrol the one person who walks in a video.

        Args:
            name: Of the person.
            consent: Who agreed to what, and when.
            video: File.
            add: True to add walks to somebody enrolled.
        """
        query = {"person": name, "note": consent, "add": str(add).lower()}
        result: dict[str, Any] = self._call("POST", "/enrolment/video", query, upload=video)
        if result["state"] == "failed":
            raise DataError(one_line(result["message"], 500))
        return result

    def identify(self, video: Path) -> dict[str, Any]:
        """Return who walks in a video; the service keeps nothing of it."""
        result: dict[str, Any] = self._call("POST", "/identify", upload=video)
        return result

    def events(self, limit: int = 20, **filters: str | None) -> tuple[list[dict[str, Any]], int]:
        """Return the newest events, the oldest of them first, and the number of the last.

        Args:
            limit: At most so many.
            filters: `camera`, `person`, `answer`.
        """
        answer = self._call("GET", "/events", {"limit": str(limit), **_given(filters)})
        return [row["event"] for row in reversed(answer["events"])], answer["last"]

    def follow(self, after: int, **filters: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the events after one with their numbers, for ever.

        Args:
            after: Number of the last event that is known.
            filters: `camera`, `person`, `answer`.
        """
        while True:
            query = {"after": str(after), "wait_s": str(WAIT_S), **_given(filters)}
            answer = self._call("GET", "/events", query)
            for row in answer["events"]:
                yield row["id"], row["event"]
            after = answer["last"]

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        upload: Path | None = None,
    ) -> Any:
        """Return the JSON answer of an operation; raises our error with the problem's words."""
        search = f"?{urlencode(query, quote_via=quote)}" if query else ""
        request = urllib.request.Request(
            f"{self.address}/api/v1{path}{search}",
            method=method,
            headers={"authorization": f"Bearer {self._token}", "accept": "application/json"},
        )
        try:
            if upload is None:
                return self._answer(request, TIMEOUT_S + WAIT_S)
            with _opened(upload) as file:
                request.data = file
                request.add_header("content-type", "application/octet-stream")
                request.add_header("content-length", str(os.fstat(file.fileno()).st_size))
                return self._answer(request, UPLOAD_TIMEOUT_S)
        except urllib.error.HTTPError as err:
            with err:
                raise _error_of(err) from err
        except (OSError, http.client.HTTPException) as err:
            reason = getattr(err, "reason", None) or err
            raise SourceUnavailable(
                f"no service answers at {one_line(self.address)}: {one_line(reason)}",
                remedy="check the address, and that cstl-edge serve runs there",
            ) from err

    def _answer(self, request: urllib.request.Request, timeout_s: float) -> Any:
        with self._opener.open(request, timeout=timeout_s) as answer:
            data = answer.read(MAX_ANSWER_BYTES + 1)
        try:
            if len(data) > MAX_ANSWER_BYTES:
                raise ValueError("it is too long")
            return json.loads(data)
        except ValueError as err:
            raise SourceUnavailable(
                f"{one_line(self.address)} answers, but not as cstl-edge serve: {one_line(err)}"
            ) from err


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as err:
        reason = one_line(err.strerror or err)
        raise SourceUnavailable(f"cannot open {one_line(path)}: {reason}") from err


def _given(filters: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in filters.items() if value is not None}


def _token() -> str:
    """Return the token of the environment (ConfigError: there is none)."""
    token = os.environ.get(TOKEN, "").strip()
    name = os.environ.get(TOKEN_FILE)
    if not token and name:
        data = read_bytes(name, 4096, "a file with a token", ConfigError)
        token = data.decode("utf-8", "replace").strip()
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigError(
            "--server needs a token",
            remedy=f"set {TOKEN}, or name a file in {TOKEN_FILE}; the service's own lies in its "
            "data folder, in the file token",
        )
    return token


def _error_of(err: urllib.error.HTTPError) -> CstlEdgeError:
    """Return our error of a problem, or of the answer of something else."""
    kind = ERROR_OF_STATUS.get(err.code, SourceUnavailable)
    try:
        problem = json.loads(err.read(2**16))
        words = [str(problem[key]) for key in ("title", "detail") if problem.get(key)]
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        words = []
    if not words:
        return SourceUnavailable(
            f"HTTP {err.code} {one_line(err.reason)}: this is no answer of cstl-edge serve"
        )
    return kind(one_line(" ".join(words), 500))
