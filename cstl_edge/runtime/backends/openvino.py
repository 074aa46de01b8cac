"""OpenVINO on the CPU, where it is installed: the same folder, chosen by name and never by itself.

Graphs keep their open shapes: fixed ones gained 6 % at most for `frames` and had to be compiled for
every number of walkers, 20 ms each and more. What slides has all threads: at the paper's widths two
halved the time of `slide` (1.95 to 1.03 ms), at the shipped ones they cost nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cstl_edge.errors import BackendUnavailable, ModelError, one_line
from cstl_edge.runtime.backends.onnx_folder import GraphEncoder, read_folder
from cstl_edge.runtime.streaming.rings import KEPT

DEVICE = "CPU"
HINT = "f32"
"""What OpenVINO is told to compute in; int8 stands in the graph. Unless told, it takes bfloat16
wherever the processor has it."""


def load_folder(folder: Path, threads: int, precision: str | None = None) -> GraphEncoder:
    """Check an exported folder and open it (ModelError, BackendUnavailable).

    threads: more than the machine has cores are cut by OpenVINO; the info tells what it took
    precision: as in `graphs.read_folder`
    """
    core()  # before anything is read: who lacks OpenVINO need not wait for a check
    read = read_folder(folder, precision)
    models = {name: compiled(name, graph, threads) for name, graph in read.graphs.items()}
    head = models[read.head]
    provider = " ".join(head.get_property("EXECUTION_DEVICES"))
    info = read.info("openvino", provider, int(head.get_property("INFERENCE_NUM_THREADS")))
    return GraphEncoder(read, info, {name: Requests(model) for name, model in models.items()})


def core() -> Any:
    """Return an `openvino.Core` (BackendUnavailable)."""
    try:
        import openvino
    except ImportError as err:
        raise BackendUnavailable(
            "backend 'openvino' is not on this machine: pip install openvino, or leave the "
            "backend to 'auto'"
        ) from err
    return openvino.Core()


def compiled(
    name: str,
    graph: bytes,
    threads: int,
    hint: str = HINT,
    shapes: Mapping[str, list[int]] | None = None,
) -> Any:
    """Compile a graph that was checked, for one answer at a time (ModelError, BackendUnavailable).

    hint: type to compute in, as OpenVINO names it
    shapes: of all inputs, to be fixed
    """
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        # Pinned, the encoders of two cameras would share the first cores and leave others idle; on
        # a machine that has no others it gained nothing.
        "ENABLE_CPU_PINNING": False,
    }
    here = core()
    try:
        model = here.read_model(_translated(graph))
        if shapes:
            model.reshape(dict(shapes))
        opened = here.compile_model(model, DEVICE, settings)
    except RuntimeError as err:
        raise ModelError(f"{name}: OpenVINO refuses it: {one_line(err)}") from err
    told = str(opened.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    if told != hint:
        raise BackendUnavailable(f"{name}: expected OpenVINO to compute in {hint}; it chose {told}")
    return opened


class Requests:
    """A compiled model as a `graphs.Run` that several threads may call at once.

    A request serves one call at a time; those at rest are used again.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._resting: deque[Any] = deque([model.create_infer_request()])

    def __call__(self, feed: Mapping[str, Any]) -> list[Any]:
        """Run it (ModelError). The inputs are read where they lie, the outputs are copies."""
        try:
            request = self._resting.pop()
        except IndexError:
            request = self._model.create_infer_request()
        try:
            found = request.infer(dict(feed), share_inputs=True, share_outputs=False)
        except RuntimeError as err:
            raise ModelError(f"OpenVINO failed: {one_line(err)}") from err
        self._resting.append(request)
        return list(found.values())


def _translated(graph: bytes) -> bytes:
    """Return a graph without what OpenVINO does not read: local functions, narrow indices.

    It wants the indices of GatherElements as wide as the data on all axes but one. `slide` gathers
    c of the 3c values of a frame: here it gathers all of them and keeps the first c.
    """
    import onnx
    from onnx.inliner import inline_local_functions

    model = inline_local_functions(onnx.load_model_from_string(graph))
    nodes = model.graph.node
    for at, node in enumerate(nodes):
        if node.op_type == "GatherElements" and node.input[0] == KEPT[0]:
            narrow, first = node.input[1], node.output[0]
            node.input[1], node.output[0] = f"{narrow}.wide", f"{first}.wide"
            rest = [f"{first}.second", f"{first}.third"]  # nobody's
            nodes.insert(
                at + 1, onnx.helper.make_node("Split", node.output, [first, *rest], axis=3)
            )
            nodes.insert(at, onnx.helper.make_node("Concat", [narrow] * 3, node.input[1:], axis=3))
            break
    return bytes(model.SerializeToString())
