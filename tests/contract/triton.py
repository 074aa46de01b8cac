"""Round trip through a real Triton server: equal embeddings, also after it went away.

python tests/contract/triton.py [--cache FOLDER]

The server is the one of the package nvidia-pytriton (tritonserver with its python backend, no GPU
needed), installed into an environment of its own in a cache folder; 370 MB. Prints one line per
check; exits with 1 at the first that fails.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.errors import BackendUnavailable
from cstl_edge.export.triton import write_repository
from cstl_edge.runtime import load

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests" / "golden" / "tiny_reduced"
PACKAGES = ["nvidia-pytriton==0.7.0", "onnxruntime", "onnx", "pydantic"]
START_S = 60.0


def main(argv: list[str] | None = None) -> int:
    """Run every check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cstl-edge"
    parser.add_argument("--cache", type=Path, default=home / "contract", help="where it is kept")
    site = environment(parser.parse_args(argv).cache / "triton")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print("written:", write_repository(MODEL, folder / "models", "python"))
        port = free_port()
        with server(site, folder, port):
            encoder = load(f"triton://127.0.0.1:{port + 1}/cstl")
            print("opened:", encoder.info.provider)
            compare(encoder)
        try:
            encoder.frames(np.zeros((1, *encoder.info.size), np.uint8))
        except BackendUnavailable as err:
            print("gone:", err)
        else:
            raise SystemExit("expected BackendUnavailable without a server; got an answer")
        with server(site, folder, port):
            compare(encoder)
            print("back: the same encoder answers again")
    return 0


def environment(home: Path) -> Path:
    """Return the site-packages of the server's environment, installed at the first call."""
    site = home / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    if not (site / "pytriton").exists():
        venv.create(home, with_pip=True)
        subprocess.run([home / "bin" / "pip", "install", "-q", *PACKAGES], check=True)
    link = site / "cstl_edge"
    if not link.exists():
        link.symlink_to(ROOT / "cstl_edge")
    return site


@contextlib.contextmanager
def server(site: Path, folder: Path, port: int) -> Iterator[None]:
    """Run the server until the block ends: HTTP at `port`, gRPC at the next."""
    triton = site / "pytriton" / "tritonserver"
    backends = folder / "backends"
    if not backends.exists():
        shutil.copytree(triton / "backends", backends)
        stubs = triton / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}"
        shutil.copy2(stubs / "triton_python_backend_stub", backends / "python")
    libraries = [site / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    command: list[Any] = [triton / "bin" / "tritonserver", "--model-repository"]
    command += [folder / "models", "--backend-directory", backends]
    for kind, number in (("http", port), ("grpc", port + 1)):
        command += [f"--{kind}-port", str(number), f"--{kind}-address", "127.0.0.1"]
    command += ["--allow-metrics", "false"]
    # An embedded interpreter takes the first Python of PATH for its children, the model check's.
    found = os.pathsep.join([str(site.parents[2] / "bin"), os.environ["PATH"]])
    path = {"PATH": found, "PYTHONPATH": str(site)}
    path["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, libraries))
    log = folder / "server.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            list(map(str, command)), stdout=output, stderr=output, env=os.environ | path
        )
    try:
        wait_ready(child, port, log)
        yield
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


def wait_ready(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the server's models are ready."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and child.poll() is None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=2),
        ):
            return
        time.sleep(0.2)
    lines = log.read_text(errors="replace").splitlines()
    faults = [line for line in lines if "rror" in line] or lines
    raise SystemExit("the server is not ready:\n" + "\n".join(faults[:5]))


def compare(encoder: Any) -> None:
    """Compare with the same model here: any rows, ragged windows, bit for bit."""
    here = load(MODEL, "onnxruntime", precision="float32")
    rng = np.random.default_rng(0)
    for rows, frames in ((1, 6), (3, 9), (40, 2)):
        silhouettes = rng.integers(0, 2, (rows, frames, *here.info.size), dtype=np.uint8) * 255
        silhouettes = silhouettes.astype(np.uint8)
        lengths = rng.integers(1, frames + 1, rows).astype(np.int32)
        there, expected = (e.encode(silhouettes, lengths) for e in (encoder, here))
        np.testing.assert_allclose(there.embedding, expected.embedding, atol=1e-6)
        np.testing.assert_array_equal(there.salient_frames, expected.salient_frames)
    print("equal: embeddings and salient frames of 1, 3 and 40 walkers")


def free_port() -> int:
    """Return the first of two ports that are free now."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with contextlib.suppress(OSError):
                second.bind(("127.0.0.1", port + 1))
                return port


if __name__ == "__main__":
    sys.exit(main())
