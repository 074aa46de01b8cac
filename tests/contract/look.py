"""Compare `surface` with one unpacked wheel: `python look.py tensorrt|cuda FOLDER`.

Prints one line for everything that is missing or different; run by `run.py`, a process per wheel.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import surface


def look(trt: Any) -> Iterator[str]:
    """Yield what the bindings of TensorRT lack."""
    version = tuple(map(int, trt.__version__.split(".")[:2]))
    for name, wanted in (surface.METHODS | surface.OVERRIDDEN).items():
        yield from _method(trt, name, wanted)
    for name, wanted in surface.CONSTRUCTED.items():
        yield from _method(trt, f"{name}.__init__", wanted)
    written = [f"IBuilderConfig.{name}" for name in surface.WRITTEN]
    for name in [*surface.READ, *written]:
        found = _get(trt, name)
        if not isinstance(found, property):
            yield f"{name}: expected a property; got {found}"
        elif name in written and found.fset is None:
            yield f"{name}: cannot be set"
    members = [(kind, name) for kind, names in surface.MEMBERS.items() for name in names]
    members += [member for member, since in surface.SINCE.items() if version >= since]
    for kind, name in members:
        if name not in getattr(_get(trt, kind), "__members__", {}):
            yield f"{kind}.{name} is missing"
    yield from _subclasses(trt)


def look_at_cuda(runtime: Any) -> Iterator[str]:
    """Yield what `cuda.bindings.runtime` lacks."""
    for name, count in surface.CUDA.items():
        found = getattr(runtime, name, None)
        if found is None:
            yield f"{name} is missing"
            continue
        first = (found.__doc__ or "").strip().splitlines()[0]
        parameters = re.sub(r"^\w+\((.*)\)$", r"\1", first)
        if len([p for p in parameters.split(",") if p.strip()]) != count:
            yield f"{name}: expected {count} arguments; got {first}"
    for name in surface.CUDA_NAMES:
        if _get(runtime, name) is None:
            yield f"{name} is missing"
    error, _ = runtime.cudaGetDevice()
    if int(error) == 0:
        return
    status, words = runtime.cudaGetErrorString(error)  # without a GPU: how an error comes
    if int(status) != 0 or not isinstance(words, bytes):
        yield f"cudaGetErrorString: expected (0, bytes); got {(status, words)}"


def _method(trt: Any, name: str, wanted: tuple[str, ...]) -> Iterator[str]:
    """Compare the parameters of a method with those we give; overloads: one must fit."""
    found = _get(trt, name)
    if not callable(found):
        yield f"{name} is missing"
        return
    signatures = re.findall(
        r"^(?:\d+\. )?\w+\(self[^,)]*,? ?(.*?)\) ->", inspect.getdoc(found) or "", re.M
    )
    parameters = [tuple(re.findall(r"(\w+): ", signature)) for signature in signatures]
    if not parameters:
        yield f"{name}: no signature in {inspect.getdoc(found)!r}"
    elif not any(p[: len(wanted)] == wanted for p in parameters):
        yield f"{name}: expected {wanted}; got {parameters}"


def _subclasses(trt: Any) -> Iterator[str]:
    """Yield when a logger or a progress monitor of ours cannot be made."""
    for name in ("ILogger", "IProgressMonitor"):
        base = getattr(trt, name)
        kind = type("Ours", (base,), {"__init__": lambda self, base=base: base.__init__(self)})
        try:
            kind()
        except Exception as err:
            yield f"{name} cannot be subclassed: {err}"


def _get(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module


def main() -> int:
    """Look at the wheel that the command line names."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    sys.path.insert(0, str(folder))
    if kind == "tensorrt":
        found = [*look(importlib.import_module("tensorrt_bindings"))]
    else:
        found = [*look_at_cuda(importlib.import_module("cuda.bindings.runtime"))]
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
