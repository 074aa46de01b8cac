"""Build, find and load the part gather for NVIDIA GPUs: its kernel and the plugin around it.

The sources travel in the package (`csrc`). cmake builds them in child processes into the user's
cache folder: a library with the kernel alone, and one with the plugin per TensorRT major version,
each beside a record of what it was built from, without which it is refused.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import platform
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cstl_edge.errors import BackendUnavailable, ConfigError, ModelError, one_line
from cstl_edge.foreign import load_json, parsing
from cstl_edge.output import user_folder

SOURCES = Path(__file__).parents[2] / "csrc"
STEP_TIMEOUT_S = 1800.0  # a Jetson compiles all architectures in minutes
REBUILD = "Build it: cstl-edge plugin build"


@dataclass(frozen=True)
class Library:
    """A built library and the record that lies beside it."""

    path: str
    sha256: str  # of the library
    sources: str  # sha256 of `csrc`, see `sources_sha256`
    cuda: str  # version of nvcc, such as 13.0.88
    architectures: str  # as cmake has them: 87-real is machine code, 87-virtual is PTX
    tensorrt: str | None  # version of the headers, such as 10.3; None for the kernel alone
    checked: str  # last line of its test after the build, with the GPU if it ran on one


class Dims(ctypes.Structure):
    """`cstl::PartGatherDims`: n sequences, p parts, s frames, c channels."""

    _fields_ = [(letter, ctypes.c_int64) for letter in "npsc"]


DTYPES = {"float32": 0, "float16": 1}
"""`cstl::PartGatherType` by the name of a numpy or torch type."""


def library_folder() -> Path:
    """Return where libraries are kept: XDG_CACHE_HOME, else ~/.cache, by kind of machine."""
    return user_folder("cache") / "plugin" / platform.machine()


def sources_sha256() -> str:
    """Return the sha256 over names and bytes of everything that is compiled."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        if path.is_file() and path.suffix != ".md":
            content = path.read_bytes()
            digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def library_name(tensorrt_major: int | None = None) -> str:
    """Return the file name of the plugin for a TensorRT, or of the kernel alone.

    >>> library_name(10), library_name()
    ('libcstl_part_gather_trt10.so', 'libcstl_part_gather.so')
    """
    major = "" if tensorrt_major is None else f"_trt{tensorrt_major}"
    return f"libcstl_part_gather{major}.so"


def find(tensorrt_major: int | None = None, folder: Path | None = None) -> Library:
    """Return the plugin for a TensorRT, or the kernel alone, after comparing it with its record.

    Raises BackendUnavailable when there is none, or only one of other sources; ModelError when the
    file is not what was built, or others may write it.
    """
    path = (folder or library_folder()) / library_name(tensorrt_major)
    with parsing(path, "the library and its record", BackendUnavailable, REBUILD):
        record = load_json(path.with_suffix(".json").read_bytes())
        library = Library(**record | {"path": str(path)})
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        modes = {file: file.lstat().st_mode for file in (path, path.parent)}
    for file, mode in modes.items():
        if stat.S_ISLNK(mode) or mode & stat.S_IWOTH:
            raise ModelError(
                f"{one_line(file)}: expected a file in a folder that only you can change; got a "
                "link, or what anybody may write. Correct that"
            )
    if sha256 != library.sha256:
        was = f"{library.sha256[:12]}… as built; got {sha256[:12]}…"
        raise ModelError(f"{one_line(path)}: expected sha256 {was}. {REBUILD}")
    if library.sources != sources_sha256():
        raise BackendUnavailable(f"{one_line(path)} is of another version's sources. {REBUILD}")
    return library


def load(library: Library | None = None) -> ctypes.CDLL:
    """Open a library (default: the kernel alone) for calls of its C entry points.

    `cstlPartGather` and `cstlPartGatherHost` take addresses: features [n, s, p, c], scores
    [n, p, s], lengths int32 [n], salient [n, p, c], frames int32 [n, p]; then a `Dims` by reference
    and one of `DTYPES`; the first of them also a stream. They return 0, or a code for
    `cstlPartGatherError`.
    """
    library = library or find()
    try:
        opened = ctypes.CDLL(library.path)
    except OSError as err:
        raise BackendUnavailable(
            f"{one_line(library.path)} does not load here: {one_line(err)}. {REBUILD}"
        ) from err
    tensors = [ctypes.c_void_p] * 5
    opened.cstlPartGatherHost.argtypes = [*tensors, ctypes.POINTER(Dims), ctypes.c_int32]
    opened.cstlPartGather.argtypes = [*opened.cstlPartGatherHost.argtypes, ctypes.c_void_p]
    opened.cstlPartGatherError.argtypes = [ctypes.c_int32]
    opened.cstlPartGatherError.restype = ctypes.c_char_p
    return opened


def build(
    *,
    kernel_only: bool = False,
    architectures: Sequence[str] = (),
    tensorrt_root: Path | None = None,
    folder: Path | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> list[Library]:
    """Build the kernel and, unless `kernel_only`, the plugin; test them; put them into `folder`.

    Args:
        kernel_only: True to leave out the plugin.
        architectures: Numbers such as 87; none means all that nvcc knows of those we support.
        tensorrt_root: Unpacked archive or checkout of NVIDIA's public repository, whose include/
            holds the headers; None means the system's headers.
        folder: Target, by default `library_folder`; its build.log holds all output of the build.
        progress: Function that is called with a word at each step.

    Raises:
        ConfigError: architectures or a root that cannot be meant
        BackendUnavailable: no cmake, nvcc or headers
        ModelError: the compiler or a test failed; nothing that was there before has changed
    """
    settings = _settings(kernel_only, architectures, tensorrt_root)
    cmake = shutil.which("cmake")
    if cmake is None:
        raise BackendUnavailable(
            "expected cmake 3.22 or newer; found none. Install it: sudo apt install cmake"
        )
    target = folder or library_folder()
    log = target / "build.log"
    try:
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        log.write_text("", encoding="utf-8")
        with tempfile.TemporaryDirectory(prefix="build-", dir=target) as temporary:
            tree = Path(temporary)
            generator = ["-G", "Ninja"] if shutil.which("ninja") else []
            progress("looking for CUDA and TensorRT")
            _run([cmake, "-S", str(SOURCES), "-B", str(tree), *generator, *settings], log)
            progress("compiling")
            _run([cmake, "--build", str(tree), "--parallel"], log)
            progress("testing")
            return _keep(tree, target, log)
    except OSError as err:
        raise ModelError(f"building in {one_line(target)} failed: {one_line(err)}") from err


def _settings(kernel_only: bool, architectures: Sequence[str], root: Path | None) -> list[str]:
    """Return the options of `build` as cmake's settings."""
    for architecture in architectures:
        if not re.fullmatch(r"\d{2,3}", architecture):
            raise ConfigError(f"expected architectures such as 87; got {one_line(architecture)}")
    if root is not None and not root.is_dir():
        raise ConfigError(
            f"expected the folder of a TensorRT archive or checkout; got {one_line(root)}"
        )
    settings = {"CSTL_EDGE_PLUGIN": "OFF" if kernel_only else "ON"}
    if architectures:
        settings["CSTL_EDGE_ARCHITECTURES"] = ";".join(architectures)
    if root is not None:
        settings["TensorRT_ROOT"] = str(root.resolve())
    return [f"-D{name}={value}" for name, value in settings.items()]


def _run(command: list[str], log: Path) -> str:
    """Run one step, log and return its output; BackendUnavailable or ModelError if it fails."""
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=STEP_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise ModelError(f"building took more than {STEP_TIMEOUT_S:g} s; it was stopped") from err
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n{done.stdout}\n")
    if done.returncode != 0:
        failure = BackendUnavailable if "-S" in command else ModelError
        raise failure(f"{_reason(done.stdout)} (all of it: {one_line(log)})")
    return done.stdout


def _reason(output: str) -> str:
    r"""Return the cause in the output of a failed step, on one line.

    >>> _reason("x\nCMake Error at y:1 (message):\n  expected nvcc;\n  found none\n\n\nz\n")
    'expected nvcc; found none'
    """
    message = re.search(r"CMake Error at [^\n]*\(message\):\n\n?(.*?)\n\n", output, re.DOTALL)
    if message:
        return one_line(" ".join(message[1].split()), 600)
    lines = [line for line in output.splitlines() if line.strip()] or ["no word"]
    return one_line(next((line for line in lines if "error" in line.lower()), lines[-1]), 600)


def _keep(tree: Path, target: Path, log: Path) -> list[Library]:
    """Test the new libraries, and put them and their records into the target folder."""
    versions = json.loads((tree / "found.json").read_text(encoding="utf-8"))
    tests: dict[int | None, str] = {None: "part_gather_test"}
    if versions["tensorrt"]:
        tests[int(versions["tensorrt"].split(".")[0])] = "part_gather_plugin_test"
    outputs = {major: _run([str(tree / test)], log) for major, test in tests.items()}
    libraries = []
    for major, output in outputs.items():
        file = tree / library_name(major)
        library = Library(
            path=str(target / file.name),
            sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
            sources=sources_sha256(),
            cuda=versions["cuda"],
            architectures=versions["architectures"],
            tensorrt=None if major is None else versions["tensorrt"],
            checked=output.strip().splitlines()[-1],
        )
        record = file.with_suffix(".json")
        record.write_text(json.dumps(asdict(library), indent=1) + "\n", encoding="utf-8")
        for new in (file, record):  # `find` refuses the pair while only one is new
            new.replace(target / new.name)
        libraries.append(library)
    return libraries
