"""Record of an engine, `NAME.plan.json`: read, and compared with this machine and model.

A plan is native code for one TensorRT on one kind of GPU. It names neither; opening a wrong or a
foreign one can crash the process or worse. So nothing is deserialised before its record is in
order, the file is the one that was recorded, and this machine and model are those it was built for.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from cstl_edge.errors import ModelError, one_line
from cstl_edge.runtime.base import is_shipped
from cstl_edge.runtime.manifest import Manifest, Sha256, parse_json, read_file

Graph = Literal["frames", "head", "full", "mask"]
Compatibility = Literal["none", "same", "ampere"]
Dims = Annotated[tuple[int, ...], pydantic.Strict(False)]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", strict=True)


class SizeRange(_Strict):
    """Sizes that one input of a profile may take."""

    min: Dims
    opt: Dims
    max: Dims


Profile = dict[str, SizeRange]
"""By input."""
INPUTS = {
    "frames": {"silhouettes": 3},
    "head": {"features": 4, "lengths": 1},
    "full": {"silhouettes": 4, "lengths": 1},
    "mask": {"crops": 4},
}
"""Axes of every input by graph."""


class Plugin(_Strict):
    """The plugin library whose kernel is in the plan."""

    name: str
    version: str
    namespace: str
    sha256: Sha256


class EngineRecord(_Strict):
    """The record beside a plan: what it was built from, with, and for."""

    format: Literal[1]
    graph: Graph
    plan_sha256: Sha256
    model: str
    weights_sha256: Sha256
    onnx: str
    onnx_sha256: Sha256
    precision: str
    library: Literal["tensorrt", "tensorrt_rtx"]
    version: str  # of the library, in full: a plan is for exactly one
    sm: int  # compute capability as one number, 87 for 8.7
    gpu: str | None  # name of the GPU; None when it was built ahead of time, without one
    cuda: str | None
    multiprocessors: int | None = None  # of the GPU; None in older records
    board: str | None = None  # the board's model, where the system names it
    compatibility: Compatibility
    plugin: Plugin | None  # None when the graph's own function body serves
    profiles: Annotated[list[Profile], pydantic.Field(min_length=1, max_length=16)]
    window: Annotated[int, pydantic.Field(ge=1)]  # live, [frames]: CUDA graphs are captured for it
    options: dict[str, Any] = {}  # values of the command line that built it, by option
    audit: dict[str, Any] = {}
    memory: dict[str, Any] = {}  # [bytes]: of the plan, and of the activations by profile
    parity: dict[str, Any] | None = None
    build_s: float = 0.0
    created_with: dict[str, Any] = {}
    created_utc: str = ""

    @pydantic.model_validator(mode="after")
    def _profiles_fit(self) -> EngineRecord:
        """Refuse profiles of other inputs than the graph's, or with sizes that cannot be."""
        expected = INPUTS[self.graph]
        for profile in self.profiles:
            axes = {name: {len(r.min), len(r.opt), len(r.max)} for name, r in profile.items()}
            if axes != {name: {count} for name, count in expected.items()}:
                raise ValueError(f"expected profiles of {', '.join(expected)}")
            for sizes in profile.values():
                triples = zip(sizes.min, sizes.opt, sizes.max, strict=True)
                if not all(1 <= low <= best <= high for low, best, high in triples):
                    raise ValueError("expected min <= opt <= max")
        return self


ENGINES = "engines"  # folder within an exported model; a folder per target in it
TENSORRT = "tensorrt"  # the target that is this machine's own TensorRT
SUFFIX = ".plan"
MAX_RECORD_BYTES = 2**20
MAX_PLAN_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Machine:
    """Libraries and GPU of the machine that is to open a plan."""

    library: str
    version: str
    sm: int
    gpu: str
    plugin_sha256: str | None  # of its plugin library for this TensorRT; None without one
    multiprocessors: int | None = None
    board: str | None = None


def read_record(folder: Path, graph: str) -> EngineRecord:
    """Read the record of one engine in a folder of engines (ModelError)."""
    path = folder / f"{graph}{SUFFIX}.json"
    refuse_open_to_others(folder)
    raw, parse = _read_private(path, MAX_RECORD_BYTES), EngineRecord.model_validate
    record = parse_json(raw, parse, path, "Build the engines again", root="profiles")
    if record.graph != graph:
        raise ModelError(f"{one_line(path)}: expected the graph {graph}; got {record.graph}")
    return record


def read_records(
    folder: Path, graphs: Sequence[str], manifest: Manifest, target: str = TENSORRT
) -> dict[str, EngineRecord]:
    """Read the records of engines of an exported model, compared with its manifest (ModelError).

    Args:
        folder: Folder of the exported model.
        graphs: Names of the graphs.
        manifest: Manifest of the exported model.
        target: Name of the folder below `ENGINES`.
    """
    records = {graph: read_record(folder / ENGINES / target, graph) for graph in graphs}
    for record in records.values():
        if difference := _difference_of_model(record, manifest):
            raise _refusal(record, folder, [difference])
    return records


def read_plan(folder: Path, record: EngineRecord) -> bytes:
    """Return the bytes that were recorded, and no others: only these may be deserialised."""
    path = folder / f"{record.graph}{SUFFIX}"
    data = _read_private(path, MAX_PLAN_BYTES)
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != record.plan_sha256:
        raise ModelError(
            f"{one_line(path)}: expected sha256 {record.plan_sha256[:12]}… as recorded when it was "
            f"built; got {sha256[:12]}…. The file was changed, cut or damaged: build it again"
        )
    return data


def _difference_of_model(record: EngineRecord, manifest: Manifest) -> str | None:
    """Return how an engine is of other weights or of another export than the manifest's."""
    sha256 = manifest.files.get(record.onnx)
    if record.weights_sha256 != manifest.weights_sha256:
        return (
            f"built from the weights {record.weights_sha256[:12]}…, "
            f"the model beside it has {manifest.weights_sha256[:12]}…"
        )
    if sha256 != record.onnx_sha256:
        return (
            f"built from {one_line(record.onnx)} {record.onnx_sha256[:12]}…, the model beside it "
            f"{f'has {sha256[:12]}…' if sha256 else 'has no such graph'}"
        )
    return None


def check_machine(record: EngineRecord, machine: Machine, folder: Path) -> None:
    """Refuse an engine that was built for another machine (ModelError with both of them).

    Args:
        record: Record of the engine.
        machine: Machine that shall run it.
        folder: Folder of the exported model, for the command that builds anew.
    """
    if differences := _differences(record, machine):
        raise _refusal(record, folder, differences)


def rebuild_command(record: EngineRecord, folder: Path) -> str:
    """Return the command that builds such an engine of an exported model on this machine."""
    options = [word for name, value in record.options.items() for word in (f"--{name}", str(value))]
    return shlex.join(["cstl-edge", "build", str(folder), *options])


def build_command(folder: Path) -> str:
    """Return the command that builds the engines of a model; the shipped one is copied first."""
    if is_shipped(folder):
        return shlex.join(["cstl-edge", "build", "-o", f"engines/{folder.name}"])
    return shlex.join(["cstl-edge", "build", str(folder)])


def refuse_open_to_others(path: Path) -> None:
    """Refuse a folder or file that another user could have written (ModelError)."""
    try:
        state = path.lstat()
    except FileNotFoundError as err:
        raise ModelError(
            f"{one_line(path)} is missing. Build the engines: cstl-edge build FOLDER"
        ) from err
    except OSError as err:
        raise ModelError(f"{one_line(path)} cannot be read: {one_line(err.strerror)}") from err
    native, fault = "engines are native code", None
    if stat.S_ISLNK(state.st_mode):
        fault = f"is a link: {native}, build them in place"
    elif state.st_mode & stat.S_IWOTH:
        advice = "Make it yours alone (chmod o-w) and build the engines again"
        fault = f"can be written by everybody: {native}. {advice}"
    elif state.st_uid not in (0, getattr(os, "geteuid", lambda: state.st_uid)()):
        advice = "Build them as the user who runs them, or as root"
        fault = f"belongs to user {state.st_uid}: {native}. {advice}"
    if fault:
        raise ModelError(f"{one_line(path)} {fault}")


def _read_private(path: Path, max_bytes: int) -> bytes:
    """Read a regular file that no other user could have written."""
    refuse_open_to_others(path)
    return read_file(path, max_bytes)


def _differences(record: EngineRecord, machine: Machine) -> list[str]:
    """Return what differs, each as `built for …, here …`."""
    differences = []
    if (record.library, record.version) != (machine.library, machine.version):
        differences.append(
            f"built with {record.library} {one_line(record.version)}, "
            f"here is {machine.library} {one_line(machine.version)}"
        )
    if not _same_gpu(record, machine):
        differences.append(
            f"built for {_gpu_in_words(record)}, this GPU is {_gpu_in_words(machine)}"
        )
    if record.plugin is not None and record.plugin.sha256 != machine.plugin_sha256:
        here = machine.plugin_sha256
        differences.append(
            f"built with the plugin library {record.plugin.sha256[:12]}…, "
            f"here is {f'{here[:12]}…' if here else 'none (cstl-edge plugin build makes it)'}"
        )
    return differences


def _same_gpu(record: EngineRecord, machine: Machine) -> bool:
    """Tell whether the plan may run on this GPU: NVIDIA promises it for the same model of GPU."""
    if record.compatibility == "ampere":
        return machine.sm >= 80
    if record.compatibility == "same" or record.gpu is None:
        return record.sm == machine.sm
    known: list[tuple[int | str | None, int | str | None]] = [
        (record.multiprocessors, machine.multiprocessors),
        (record.board, machine.board),
    ]
    same = all(None in pair or pair[0] == pair[1] for pair in known)
    return same and (record.sm, record.gpu) == (machine.sm, machine.gpu)


def _gpu_in_words(owner: EngineRecord | Machine) -> str:
    """Return a GPU for people.

    >>> _gpu_in_words(Machine("tensorrt", "10.3.0", 87, "Orin", None, 16))
    'sm_87 (Orin, 16 multiprocessors)'
    """
    details = [one_line(owner.gpu or "any GPU of it")]
    details += [f"{owner.multiprocessors} multiprocessors"] if owner.multiprocessors else []
    details += [one_line(owner.board)] if owner.board else []
    return f"sm_{owner.sm} ({', '.join(details)})"


def _refusal(record: EngineRecord, folder: Path, reasons: list[str]) -> ModelError:
    return ModelError(
        f"engine {record.graph} is refused: {'; '.join(reasons)}. "
        f"Build it here: {rebuild_command(record, folder)}"
    )
