"""Backend of a Triton server: `triton://HOST:PORT/MODEL`, over gRPC, with a model of ours in it.

The server computes `frames` and `head`; manifest and distance come with the model's configuration
(`export.triton`), so the edge needs no copy of the folder. A server that goes away is waited for a
moment, then it is BackendAway; the next call tries again.
"""

from __future__ import annotations

import base64
import importlib
import re
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cstl_edge.arrays import Array
from cstl_edge.errors import BackendAway, BackendUnavailable, ConfigError, ModelError, one_line
from cstl_edge.runtime.graph import Arrays
from cstl_edge.runtime.graph_encoder import GraphEncoder
from cstl_edge.runtime.manifest import PRECISIONS, read_manifest
from cstl_edge.runtime.matching_file import read_distance

GRAPHS = ("frames", "head")
SCHEME = "triton"
PORT = 8001  # of gRPC
CALL_TIMEOUT_S = 5.0
PATIENCE_S = 2.0  # how long a call waits for a server that is away: restarts of the client's link
RETRY_S = 0.2
KINDS = {"uint8": "UINT8", "float32": "FP32", "int32": "INT32"}
MOST_ROWS = 32  # in one call, as `export.triton` configures the models
AWAY = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN")
"""Codes of gRPC that say nothing of the request: the server, or the way to it, is down."""


class Address(NamedTuple):
    """Place of a model."""

    host: str
    port: int
    model: str  # prefix of `_frames` and `_head`

    def __str__(self) -> str:
        """Return the address as a user writes it."""
        return f"{SCHEME}://{self.host}:{self.port}/{self.model}"


def parse_address(text: str) -> Address:
    """Return the parts of an address (ConfigError).

    >>> parse_address("triton://gpu.local/cstl")
    Address(host='gpu.local', port=8001, model='cstl')
    """
    # A Path has turned // into /
    match = re.fullmatch(r"triton:/{1,2}([\w.-]+|\[[\da-fA-F:]+\])(?::(\d{1,5}))?/([\w.-]+)", text)
    if match is None or not 0 < int(match[2] or PORT) < 2**16:
        raise ConfigError(f"expected triton://HOST:PORT/MODEL; got {one_line(text)!r}")
    return Address(match[1], int(match[2] or PORT), match[3])


def load_server(
    path: Path | None, threads: int | None = None, precision: str | None = None
) -> GraphEncoder:
    """Open a model of a Triton server.

    Args:
        path: Address, as in `parse_address` (ConfigError).
        threads: Ignored number: the server computes.
        precision: None; the server's models have theirs (ConfigError).

    Raises:
        BackendUnavailable: tritonclient is not installed, or no server answers.
        ModelError: The server's model is not one that `cstl-edge export --triton` wrote.
    """
    if path is None:
        raise ConfigError("backend 'triton' needs an address: --model triton://HOST:PORT/MODEL")
    if precision is not None:
        raise ConfigError("the models of a Triton server have a precision of their own")
    address = parse_address(str(path))
    client = _Client(address)
    with tempfile.TemporaryDirectory() as folder:
        platform, precision = _write_description(client, Path(folder))
        manifest = read_manifest(Path(folder))
        distance = read_distance(Path(folder), manifest)
    provider = f"Triton at {address} ({platform})"
    info = manifest.encoder_info("triton", provider, precision, 1, distance=distance)
    graphs = {graph: partial(client.run, graph) for graph in GRAPHS}
    return GraphEncoder(info, graphs, "a Triton server has no incremental head: use `head`")


class _Client:
    """Calls of one model pair."""

    def __init__(self, address: Address) -> None:
        try:
            grpc: Any = importlib.import_module("tritonclient.grpc")
        except ImportError as err:
            raise BackendUnavailable(
                "backend 'triton' is not on this machine: pip install \"tritonclient[grpc]\""
            ) from err
        self.address, self._grpc = address, grpc
        # By default a channel that failed is not tried again for up to two minutes.
        options = [
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        url = f"{address.host}:{address.port}"
        self._client = grpc.InferenceServerClient(url, channel_args=options)

    def config(self, graph: str) -> Mapping[str, Any]:
        """Return the configuration of a model."""
        name = f"{self.address.model}_{graph}"
        call = partial(
            self._client.get_model_config, name, as_json=True, client_timeout=CALL_TIMEOUT_S
        )
        config: Mapping[str, Any] = self._retried(call)["config"]
        return config

    def run(self, graph: str, inputs: Arrays) -> dict[str, Array]:
        """Run a graph on inputs of any number of rows."""
        rows = len(next(iter(inputs.values())))
        pieces = [
            self._run_piece(graph, {k: a[start : start + MOST_ROWS] for k, a in inputs.items()})
            for start in range(0, rows, MOST_ROWS)
        ]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _run_piece(self, graph: str, inputs: Arrays) -> dict[str, Array]:
        tensors = []
        for name, array in inputs.items():
            rows = array[:, None] if array.ndim == 1 else array  # [n, 1], reshaped by the server
            tensor = self._grpc.InferInput(name, list(rows.shape), KINDS[str(array.dtype)])
            tensor.set_data_from_numpy(np.ascontiguousarray(rows))
            tensors.append(tensor)
        name = f"{self.address.model}_{graph}"
        call = partial(self._client.infer, name, tensors, client_timeout=CALL_TIMEOUT_S)
        answer = self._retried(call)
        return {o.name: answer.as_numpy(o.name) for o in answer.get_response().outputs}

    def _retried(self, call: Any) -> Any:
        """Call the server, for a moment again and again while it is away."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return call()
            except self._grpc.InferenceServerException as err:
                away = any(code in str(err.status()) for code in AWAY)
                if not away:
                    raise ModelError(
                        f"{self.address}: the server refuses: {one_line(err.message(), 300)}"
                    ) from err
                if time.monotonic() > end:
                    raise BackendAway(
                        f"no Triton server answers at {self.address}: "
                        f"{one_line(err.message(), 200)}. Start it, or use a model of this machine"
                    ) from err
            time.sleep(RETRY_S)


def _write_description(client: _Client, folder: Path) -> tuple[str, str]:
    """Write manifest and distance of the server's model into a folder.

    Returns its platform and its precision.
    """
    config = client.config("frames")
    client.config("head")  # it must be there too
    parameters = config.get("parameters", {})
    prefix, found, precision = "file.", False, ""
    for key, value in parameters.items():
        name = key.removeprefix(prefix)
        if name == "precision":
            precision = data_of(client, key, value).decode("ascii", "replace")
        if key == name or not re.fullmatch(r"[a-z][a-z0-9_]*\.(json|npz)", name):
            continue
        (folder / name).write_bytes(data_of(client, key, value))
        found = True
    if not found or precision not in PRECISIONS:
        raise ModelError(
            f"{client.address} is no model of ours: expected one that cstl-edge export --triton "
            "wrote"
        )
    return str(config.get("platform") or config.get("backend")), precision


def data_of(client: _Client, key: str, value: Any) -> bytes:
    """Return the bytes of a parameter of the configuration (ModelError)."""
    try:
        return base64.b64decode(value["string_value"], validate=True)
    except (KeyError, TypeError, ValueError) as err:
        raise ModelError(f"{client.address}: {one_line(key)} is damaged") from err
