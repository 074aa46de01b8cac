"""Compare what we call with the real bindings of TensorRT and CUDA, wheel by wheel, without a GPU.

python tests/contract/run.py            all versions, a minute and 25 MB of downloads
python tests/contract/run.py --short    the oldest and the newest, for CI

Wheels come from the configured package index through pip and are kept in a cache folder.
TensorRT's own libraries are not needed: stubs of a few lines (`stub.c`) stand for them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
TENSORRT = ["10.3.0", "10.9.0.34", "10.16.1.11", "11.4.0.106"]
CUDA = ["12.9.*", "13.*"]
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")


def main(argv: list[str] | None = None) -> int:
    """Print one line per wheel, and what is wrong with it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="the oldest and the newest")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cstl-edge"
    parser.add_argument("--cache", type=Path, default=cache / "contract", help="where wheels stay")
    arguments = parser.parse_args(argv)
    wanted = [("tensorrt", "tensorrt_cu12_bindings", version) for version in TENSORRT]
    if arguments.short:
        wanted = [wanted[0], wanted[-1]]
    wanted += [("cuda", "cuda-bindings", version) for version in CUDA]
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        stubs = make_stubs(Path(temporary))
        for kind, package, version in wanted:
            folder = unpacked(package, version, arguments.cache)
            done = look(kind, folder, stubs)
            output = (done.stdout or done.stderr).strip()
            print(f"{package} {version}: {'ok' if done.returncode == 0 else output}")
            wrong += done.returncode != 0
    return 1 if wrong else 0


def make_stubs(folder: Path) -> Path:
    """Compile the libraries that the bindings want to find, for TensorRT 10 and 11."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("expected a C compiler for the stub libraries; found none")
    for major in (10, 11):
        for name in LIBRARIES:
            library = f"lib{name}.so.{major}"
            flags = ["-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(folder / library)]
            subprocess.run([compiler, *flags, str(HERE / "stub.c")], check=True)
    return folder


def unpacked(package: str, version: str, cache: Path) -> Path:
    """Return the folder of an unpacked wheel, downloaded when it is not there yet."""
    folder = (
        cache / f"{package}-{version.rstrip('.*')}-py{sys.version_info[0]}{sys.version_info[1]}"
    )
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        part = Path(temporary)
        wheels = [f"{package}=={version}"]
        wheels += ["cuda-pathfinder"] if package == "cuda-bindings" else []
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(part)]
        subprocess.run([*command, "--only-binary=:all:", *wheels], check=True)
        for wheel in part.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(part / "site")
        (part / "site").rename(folder)
    return folder


def look(kind: str, folder: Path, stubs: Path) -> subprocess.CompletedProcess[str]:
    """Look at one wheel in a process of its own, which finds the stubs."""
    return subprocess.run(
        [sys.executable, str(HERE / "look.py"), kind, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "LD_LIBRARY_PATH": str(stubs)},
    )


if __name__ == "__main__":
    sys.exit(main())
