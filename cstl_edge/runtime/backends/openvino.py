"""OpenVINO on the CPU, where it is installed: the same folder, chosen by name and never by `auto`.

Graphs keep their open shapes: fixed ones gained 6 % at most for `frames` and had to be compiled for
every number of walkers, 20 ms each and more. The incremental head has all threads: at the paper's
widths two halved the time of `slide` (1.95 to 1.03 ms), at the shipped ones they cost nothing.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from cstl_edge.errors import BackendUnavailable, ModelError, one_line
from cstl_edge.runtime.backends.onnx_folder import BFLOAT16, open_folder
from cstl_edge.runtime.base import usable_cores
from cstl_edge.runtime.graph import Arrays
from cstl_edge.runtime.graph_encoder import GraphEncoder
from cstl_edge.runtime.streaming.rings import KEPT

DEVICE = "CPU"
HINT, BFLOAT16_HINT = "f32", "bf16"
"""Type that OpenVINO must compute in; int8 stands in the graph. Without a hint it takes bfloat16
wherever the processor has it; here only where it is asked for, and in `frames` alone: the head's
scores decide which frame is taken, and rounded to 8 bits they decide otherwise."""


def load_folder(
    path: Path | None, threads: int | None = None, precision: str | None = None
) -> GraphEncoder:
    """Check an exported folder and open it.

    Args:
        path: Exported folder (ModelError where it is refused); None for the shipped model.
        threads: Number of threads of one run, by default `usable_cores`. OpenVINO takes no more
            than the machine has cores; the info holds how many it took.
        precision: Precision as in `onnx_folder.open_folder`.

    Raises BackendUnavailable where OpenVINO is not installed.
    """
    if precision == BFLOAT16:
        check_bfloat16()
    hints = {"frames": BFLOAT16_HINT} if precision == BFLOAT16 else {}
    core()  # first of all: without OpenVINO the model need not be checked
    cores = usable_cores() if threads is None else threads
    return open_folder(
        "openvino",
        path,
        precision,
        lambda graph, name, data: OpenvinoGraph(name, data, cores, hints.get(graph, HINT)),
    )


def check_bfloat16() -> None:
    """Raise BackendUnavailable where this processor has no instructions for bfloat16."""
    capabilities = core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in capabilities:
        raise BackendUnavailable(
            "precision bfloat16: this processor has no instructions for it (avx512_bf16, amx_bf16);"
            f" OpenVINO lists {', '.join(map(str, capabilities))}",
            remedy="leave the precision out",
        )


def core() -> Any:
    """Return an `openvino.Core` (BackendUnavailable)."""
    return import_openvino().Core()


def import_openvino() -> Any:
    """Return the module openvino, which reports nothing to its makers (BackendUnavailable).

    Its import would write a client id into the home folder and look for a server; without the
    package `openvino_telemetry` it does neither.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return import_module("openvino")
    except ImportError as err:
        raise BackendUnavailable(
            "backend 'openvino' is not on this machine: pip install openvino, or leave the "
            "backend to 'auto'"
        ) from err


class OpenvinoGraph:
    """One compiled graph, as an `OpenGraph` that several threads may call at once.

    A request serves one call at a time; requests at rest are used again.
    """

    def __init__(
        self,
        name: str,
        data: bytes,
        threads: int,
        hint: str = HINT,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        """Compile a graph that was checked, for one answer at a time (ModelError).

        Args:
            name: File name of the graph, for messages.
            data: Bytes of the ONNX file.
            threads: Number of threads of one run.
            hint: Type to compute in, as OpenVINO names it.
            shapes: Fixed shapes of all inputs; by default they are open.

        Raises BackendUnavailable where OpenVINO is not installed, or computes in another type.
        """
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            # Pinned, the encoders of two cameras would share the first cores and leave others
            # idle; on a machine that has no others it gained nothing.
            "ENABLE_CPU_PINNING": False,
        }
        opener = core()
        translated, self._outputs = _translated(data)
        try:
            model = opener.read_model(translated)
            if shapes:
                model.reshape({key: list(shape) for key, shape in shapes.items()})
            self.model: Any = opener.compile_model(model, DEVICE, settings)
        except RuntimeError as err:
            raise ModelError(f"{name}: OpenVINO refuses it: {one_line(err)}") from err
        chosen = str(self.model.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        if chosen != hint:
            raise BackendUnavailable(
                f"{name}: expected OpenVINO to compute in {hint}; it chose {chosen}"
            )
        self.provider = " ".join(self.model.get_property("EXECUTION_DEVICES"))
        self.threads = int(self.model.get_property("INFERENCE_NUM_THREADS"))
        self._resting: deque[Any] = deque([self.model.create_infer_request()])

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run it (ModelError). The inputs are read where they lie, the outputs are copies."""
        try:
            request = self._resting.pop()
        except IndexError:
            request = self.model.create_infer_request()
        try:
            outputs = request.infer(dict(inputs), share_inputs=True, share_outputs=False)
        except RuntimeError as err:
            raise ModelError(f"OpenVINO failed: {one_line(err)}") from err
        self._resting.append(request)
        return dict(zip(self._outputs, outputs.values(), strict=True))


def _translated(graph: bytes) -> tuple[bytes, list[str]]:
    """Return a graph without local functions and narrow indices, and the names of its outputs.

    OpenVINO reads neither: it wants the indices of GatherElements as wide as the data on all axes
    but one. `slide` gathers c of the 3c values of a frame: here all, of which the first c stay.
    """
    import onnx
    from onnx.inliner import inline_local_functions

    model = inline_local_functions(onnx.load_model_from_string(graph))
    nodes = model.graph.node
    for at, node in enumerate(nodes):
        if node.op_type == "GatherElements" and node.input[0] == KEPT[0]:
            narrow, first = node.input[1], node.output[0]
            node.input[1], node.output[0] = f"{narrow}.wide", f"{first}.wide"
            rest = [f"{first}.second", f"{first}.third"]  # read by no node
            nodes.insert(
                at + 1, onnx.helper.make_node("Split", node.output, [first, *rest], axis=3)
            )
            nodes.insert(at, onnx.helper.make_node("Concat", [narrow] * 3, node.input[1:], axis=3))
            break
    return bytes(model.SerializeToString()), [output.name for output in model.graph.output]
