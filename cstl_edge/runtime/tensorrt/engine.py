"""Deserialised plan, which all threads share. Run on stand-ins so far, not on a device."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from cstl_edge.errors import ModelError, one_line
from cstl_edge.runtime.cuda.base import Buffers, CudaError
from cstl_edge.runtime.tensorrt.record import EngineRecord, Profile

TYPES = {"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32, "UINT8": np.uint8}

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of inputs by name."""


def profile_of(profiles: list[Profile], shapes: Shapes) -> int:
    """Return the index of the first profile that takes such inputs (ModelError)."""
    for index, profile in enumerate(profiles):
        if all(
            low <= size <= high
            for name, shape in shapes.items()
            for low, size, high in zip(profile[name].min, shape, profile[name].max, strict=True)
        ):
            return index
    raise ModelError(
        f"expected inputs within the profiles of this engine; got {one_line(dict(shapes))}. "
        "Build it again with --walkers or --frames large enough"
    )


class Engine:
    """A plan that has passed all checks, opened once for all threads."""

    def __init__(self, trt: Any, runtime: Any, plan: bytes, record: EngineRecord) -> None:
        """Deserialise a plan that has passed the checks of `record` (ModelError).

        Args:
            trt: Module of TensorRT.
            runtime: TensorRT's `Runtime`.
            plan: Bytes of the engine.
            record: Record of the plan.
        """
        self._trt, self.record, self._lock = trt, record, threading.Lock()
        self._engine = runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise ModelError(
                f"engine {record.graph}: TensorRT does not open it (too little GPU memory, or a "
                "damaged installation); --debug shows what it says"
            )
        self.inputs = list(record.profiles[0])
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self.out = [name for name in names if name not in self.inputs]
        self.types = {name: self._type(name) for name in names}

    def largest(self, name: str, axis: int) -> int:
        """Return the largest size that any profile allows an input along an axis."""
        return max(profile[name].max[axis] for profile in self.record.profiles)

    def most_rows(self, name: str, sizes: tuple[int, ...]) -> int:
        """Return the rows that a profile allows for an input whose other axes have these sizes."""
        rows = [
            profile[name].max[0]
            for profile in self.record.profiles
            if all(
                low <= size <= high
                for low, size, high in zip(
                    profile[name].min[1:], sizes, profile[name].max[1:], strict=True
                )
            )
        ]
        return max(rows, default=1)  # `profile_of` refuses what no profile takes

    def context(self, shapes: Shapes, buffers: Buffers) -> tuple[Any, int]:
        """Return a new context for inputs of these shapes, and the bytes that it computes in.

        The memory is the caller's to give (`set_device_memory`).
        """
        engine_name = f"engine {self.record.graph}"
        index = profile_of(self.record.profiles, shapes)
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        with self._lock:
            context = self._engine.create_execution_context(strategy)
        if context is None:
            raise CudaError(f"{engine_name}: TensorRT makes no context: too little GPU memory?")
        if not context.set_optimization_profile_async(index, buffers.stream):
            raise ModelError(f"{engine_name}: TensorRT refuses profile {index}")
        buffers.synchronize()
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise ModelError(f"{engine_name}: TensorRT refuses {name} {list(shape)}")
        if unknown := context.infer_shapes():
            raise ModelError(f"{engine_name}: shapes of {unknown} are not known")
        needed = context.update_device_memory_size_for_shapes()  # 0 where it cannot say
        return context, needed or self._engine.get_device_memory_size_for_profile_v2(index)

    def close(self) -> None:
        """Let go of the plan; contexts have to be gone, TensorRT wants this order."""
        self._engine = None

    def _type(self, name: str) -> type:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in TYPES:
            raise ModelError(f"engine {self.record.graph}: {name} is {kind}, none of {[*TYPES]}")
        return TYPES[kind]
