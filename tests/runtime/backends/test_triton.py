"""Triton backend: addresses, and a server that is not there, is slow, refuses, or is another's.

`tests/contract/triton.py` runs a real server.
"""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from golden_export import GOLDEN

from cstl_edge.errors import BackendUnavailable, ConfigError, ModelError
from cstl_edge.export.triton import description
from cstl_edge.runtime import load
from cstl_edge.runtime.backends import triton
from cstl_edge.runtime.manifest import read_manifest

ADDRESS = "triton://gpu.local:9001/gait"


class Refusal(Exception):
    """An exception of the client."""

    def __init__(self, status, message):
        self._status, self._message = status, message

    def status(self):
        return self._status

    def message(self):
        return self._message


class Server:
    """A server of the golden export, as the client sees it."""

    def __init__(self):
        self.local = load(GOLDEN / "tiny", "onnxruntime")
        self.faults = []  # raised by the next calls, one each
        files = description(GOLDEN / "tiny", read_manifest(GOLDEN / "tiny"))
        files["precision"] = b"fp16"
        encode = triton.base64.b64encode
        self.parameters = {
            f"file.{name}": {"string_value": encode(data).decode()} for name, data in files.items()
        }
        self.rows = []

    def __call__(self, url, channel_args):
        self.url = url
        assert dict(channel_args)["grpc.max_reconnect_backoff_ms"] < 1e3 * triton.PATIENCE_S
        return self

    def _fail(self):
        if self.faults:
            raise self.faults.pop(0)

    def get_model_config(self, name, as_json, client_timeout):
        self._fail()
        assert name in ("gait_frames", "gait_head")
        assert client_timeout == triton.CALL_TIMEOUT_S
        return {"config": {"backend": "python", "parameters": self.parameters}}

    def infer(self, name, tensors, client_timeout):
        self._fail()
        arrays = {tensor.name: tensor.array for tensor in tensors}
        self.rows.append(len(next(iter(arrays.values()))))
        if name == "gait_frames":
            outputs = {"features": self.local.frames(**arrays)}
        else:
            assert arrays["lengths"].ndim == 2
            embedded = self.local.head(arrays["features"], arrays["lengths"][:, 0])
            outputs = embedded._asdict()
        answer = types.SimpleNamespace(
            outputs=[types.SimpleNamespace(name=name) for name in outputs]
        )
        return types.SimpleNamespace(get_response=lambda: answer, as_numpy=outputs.__getitem__)


class InferInput:
    def __init__(self, name, shape, kind):
        self.name, self.shape, self.kind = name, shape, kind

    def set_data_from_numpy(self, array):
        assert list(array.shape) == self.shape
        assert triton.KINDS[str(array.dtype)] == self.kind
        self.array = array


@pytest.fixture
def server(monkeypatch):
    server = Server()
    client = types.ModuleType("tritonclient.grpc")
    client.InferenceServerClient, client.InferInput = server, InferInput
    client.InferenceServerException = Refusal
    monkeypatch.setitem(sys.modules, "tritonclient", types.ModuleType("tritonclient"))
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", client)
    monkeypatch.setattr(triton.time, "sleep", lambda seconds: None)
    return server


def test_the_server_computes_and_its_model_describes_itself(server, expected):
    encoder = load(ADDRESS)
    assert server.url == "gpu.local:9001"
    assert (encoder.info.backend, encoder.info.precision) == ("triton", "fp16")
    assert encoder.info.provider == f"Triton at {ADDRESS} (python)"
    assert encoder.info.weights_sha256 == server.local.info.weights_sha256
    assert encoder.info.impostors == server.local.info.impostors
    embedded = encoder.encode(expected["silhouettes"], expected["lengths"])
    np.testing.assert_allclose(embedded.embedding, expected["embedding"], atol=1e-5)
    np.testing.assert_array_equal(embedded.salient_frames, expected["salient_frames"])


def test_many_rows_go_in_several_calls(server):
    encoder = load(ADDRESS)
    silhouettes = np.random.default_rng(0).integers(0, 256, (70, 16, 12), dtype=np.uint8)
    np.testing.assert_array_equal(encoder.frames(silhouettes), server.local.frames(silhouettes))
    assert server.rows == [32, 32, 6]


@pytest.mark.parametrize("code", ["StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"])
def test_a_server_that_is_away_for_a_moment_is_waited_for(server, code):
    encoder = load(ADDRESS)
    server.faults = [Refusal(code, "gone")] * 2
    encoder.frames(np.zeros((1, 16, 12), np.uint8))
    assert not server.faults


def test_a_server_that_stays_away_is_unavailable_until_it_is_back(server, monkeypatch):
    encoder = load(ADDRESS)
    monkeypatch.setattr(triton, "PATIENCE_S", 0.0)
    server.faults = [Refusal("StatusCode.UNAVAILABLE", "connection refused")] * 1
    with pytest.raises(
        BackendUnavailable, match=r"no Triton server answers at triton://gpu\.local"
    ):
        encoder.frames(np.zeros((1, 16, 12), np.uint8))
    encoder.frames(np.zeros((1, 16, 12), np.uint8))


def test_what_the_server_refuses_is_an_error_of_the_model(server):
    encoder = load(ADDRESS)
    server.faults = [Refusal("StatusCode.INVALID_ARGUMENT", "unexpected shape")]
    with pytest.raises(ModelError, match="the server refuses: unexpected shape"):
        encoder.frames(np.zeros((1, 16, 12), np.uint8))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "no model of ours"),
        ({"file.../../x.json": {"string_value": ""}}, "no model of ours"),
        ({"file.manifest.json": {"string_value": "?"}}, "is damaged"),
        ({"file.manifest.json": {"string_value": "e30="}}, "no model of ours"),  # no precision
        (
            {
                "file.manifest.json": {"string_value": "e30="},
                "file.precision": {"string_value": "ZmxvYXQzMg=="},
            },
            "manifest.json",
        ),
    ],
)
def test_another_model_is_refused(server, parameters, message):
    server.parameters = parameters
    with pytest.raises(ModelError, match=message):
        load(ADDRESS)


@pytest.mark.parametrize(
    "text",
    ["triton://", "triton://h/", "triton://h:0/m", "triton://h:99999/m", "triton://h m/x", "/x"],
)
def test_addresses_that_cannot_be_are_refused(text):
    with pytest.raises(ConfigError, match="expected triton://HOST:PORT/MODEL"):
        triton.parse_address(text)


def test_an_address_survives_being_a_path():
    assert str(triton.parse_address(str(Path(ADDRESS)))) == ADDRESS
    assert triton.parse_address("triton://[::1]:1/m").host == "[::1]"


def test_without_the_client_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tritonclient", None)
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(BackendUnavailable, match="tritonclient"):
        load(ADDRESS)
    with pytest.raises(ConfigError, match="needs an address"):
        load(None, "triton")
    with pytest.raises(ConfigError, match="precision of their own"):
        load(ADDRESS, precision="fp16")
