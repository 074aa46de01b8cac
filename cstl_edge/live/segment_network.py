"""The network that draws a person in a square crop (see `assets/NOTICE-blazepose.md`)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.errors import ModelError
from cstl_edge.live.segment import Image
from cstl_edge.live.source import import_cv2

cv2 = import_cv2()

Answer = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]  # [1, 256, 256, 1], [1, 1]

MODEL = Path(__file__).parent.parent / "assets" / "person_mask.onnx"


class PersonMask:
    """The network on square crops, one crop a run, `threads` of them at once.

    Two threads within its many small layers wait for each other: of five to eight crops on two busy
    cores each took 14 to 17 ms that way, and 7.5 ms this way.
    """

    def __init__(self, path: Path = MODEL, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as err:  # ONNX Runtime has no common base class of its errors
            raise ModelError(
                f"cannot load the person segmenter {path.name}: {err}; reinstall cstl-edge "
                "or use --segmenter plate"
            ) from err
        self._helpers = threads - 1  # beside the caller, who would only wait
        self._workers = ThreadPoolExecutor(max(1, self._helpers), "cstl-edge-segment")

    def __call__(self, crops: Image) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return logits [m, 256, 256] and presence [m] of crops uint8 BGR [m, 256, 256, 3]."""
        answers: dict[int, Answer] = {}
        todo = iter(enumerate(crops))
        helpers = min(self._helpers, len(crops) - 1)
        helping = [self._workers.submit(self._work, todo, answers) for _ in range(helpers)]
        self._work(todo, answers)
        for helper in helping:
            if not helper.cancel():  # it has begun
                helper.result()
        logits, presence = zip(*(answers[i] for i in range(len(crops))), strict=True)
        return np.concatenate(logits)[..., 0], np.concatenate(presence)[:, 0]

    def _work(self, todo: Iterator[tuple[int, Image]], answers: dict[int, Answer]) -> None:
        """Take crops as long as there are any; who shares `todo` shares the work."""
        for i, crop in todo:
            answers[i] = self._one(crop)

    def _one(self, crop: Image) -> Answer:
        rgb = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)[None].astype(np.float32) / 255.0
        logits, presence = self._session.run(["mask_logits", "presence"], {"image": rgb})
        return logits, presence
