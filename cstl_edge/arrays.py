"""TODO."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]  # BGR [H, W, 3]


Silhouettes: TypeAlias = npt.NDArray[np.uint8]


Floats: TypeAlias = npt.NDArray[np.float32]


Ints: TypeAlias = npt.NDArray[np.int32]
