"""The network that draws a person in a square crop (see `assets/NOTICE-blazepose.md`)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.errors import ModelError
from cstl_edge.live.segment import Image
from cstl_edge.live.source import import_cv2

cv2 = import_cv2()

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
        self._workers = ThreadPoolExecutor(threads, "cstl-edge-segment") if threads > 1 else None

    def __call__(self, crops: Image) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return logits [m, 256, 256] and presence [m] of crops uint8 BGR [m, 256, 256, 3]."""
        run = map if self._workers is None else self._workers.map
        answers = list(run(self._one, crops))
        logits, presence = zip(*answers, strict=True)
        return np.concatenate(logits)[..., 0], np.concatenate(presence)[:, 0]

    def _one(self, crop: Image) -> list[npt.NDArray[np.float32]]:
        rgb = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)[None].astype(np.float32) / 255.0
        answers: list[npt.NDArray[np.float32]]
        answers = self._session.run(["mask_logits", "presence"], {"image": rgb})
        return answers
