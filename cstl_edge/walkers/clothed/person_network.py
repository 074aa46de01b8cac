"""Person network of the product's segmenter, for filmed Walkers (ONNX Runtime, one thread).

Letters: `m` crops.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import cv2
import numpy as np

from cstl_edge.arrays import Floats, Image
from cstl_edge.walkers.clothed.film import Network


@lru_cache(maxsize=1)
def person_network() -> Network:
    """Return the network: crops uint8 BGR [m, 256, 256, 3] → logits [m, 256, 256], presence [m].

    Raises ImportError without ONNX Runtime, which is in the base installation.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = (resources.files("cstl_edge") / "assets" / "person_mask.onnx").read_bytes()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(crops: Image) -> tuple[Floats, Floats]:
        logits, presence = [], []
        for crop in crops:
            rgb = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)[None].astype(np.float32) / 255.0
            mask, score = session.run(["mask_logits", "presence"], {"image": rgb})
            logits.append(mask[0, ..., 0])
            presence.append(score[0, 0])
        return np.stack(logits), np.array(presence, np.float32)

    return run
