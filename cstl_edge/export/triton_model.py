"""`model.py` of Triton's python backend: `frames` or `head` in our own runtime.

Triton imports it from its repository, where it stands beside the exported folder `model`; the
server's Python needs cstl_edge. Calls that Triton batched are computed together where their shapes
allow it.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np


class TritonPythonModel:
    """One graph of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the exported folder; `args` are Triton's: the configuration, and where this lies."""
        from cstl_edge.runtime import load

        config = json.loads(args["model_config"])
        self.graph = config["parameters"]["graph"]["string_value"]
        folder = Path(args["model_repository"]) / args["model_version"] / "model"
        self.encoder = load(folder, "onnxruntime", precision="float32")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Compute requests; one that fails gets its error, the others their outputs."""
        utils = importlib.import_module("triton_python_backend_utils")  # the server's own
        arrays = [self._inputs(utils, request) for request in requests]
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, inputs in enumerate(arrays):
            groups.setdefault(inputs[0].shape[1:], []).append(i)
        responses: list[Any] = [None] * len(requests)
        for members in groups.values():
            answers = self._answers(utils, [arrays[i] for i in members])
            for i, answer in zip(members, answers, strict=True):
                responses[i] = answer
        return responses

    def _answers(self, utils: Any, calls: list[list[Any]]) -> list[Any]:
        """Compute calls of one shape together; where that fails, each alone."""
        joined = [np.concatenate(arrays) for arrays in zip(*calls, strict=True)]
        try:
            outputs = self._compute(joined)
        except Exception as err:  # whatever it is, the server has to answer
            if len(calls) > 1:
                return [answer for call in calls for answer in self._answers(utils, [call])]
            return [utils.InferenceResponse([], utils.TritonError(f"cstl_edge: {err}"))]
        answers, start = [], 0
        for call in calls:
            rows = slice(start, start + len(call[0]))
            tensors = [utils.Tensor(name, array[rows]) for name, array in outputs.items()]
            answers.append(utils.InferenceResponse(tensors))
            start = rows.stop
        return answers

    def finalize(self) -> None:
        """Close the model."""
        self.encoder.close()

    def _inputs(self, utils: Any, request: Any) -> list[Any]:
        names = ["silhouettes"] if self.graph == "frames" else ["features", "lengths"]
        arrays = [utils.get_input_tensor_by_name(request, name).as_numpy() for name in names]
        if self.graph == "head":
            arrays[1] = arrays[1].reshape(-1)  # [n, 1] where the server did not reshape it
        return arrays

    def _compute(self, arrays: list[Any]) -> dict[str, Any]:
        if self.graph == "frames":
            return {"features": self.encoder.frames(*arrays)}
        embedded = self.encoder.head(*arrays)
        return {"embedding": embedded.embedding, "salient_frames": embedded.salient_frames}
