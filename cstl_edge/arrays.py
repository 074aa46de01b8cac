"""Array types, each by its dtype, and the letters of axes that the whole package uses.

`n` sequences or windows, `s` frames of one, `m` frames (or sequences) of any, `h w` pixels of a
silhouette, `H W` of a picture, `p` parts, `c` channels, `d` embedding dimensions. A comment with
the layout stands behind every reshape: `# [n, s, c, p]`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Silhouettes: TypeAlias = npt.NDArray[np.uint8]
"""[..., h, w], 0..255; one silhouette is [h, w]."""
Image: TypeAlias = npt.NDArray[np.uint8]
"""BGR [H, W, 3]."""
Mask: TypeAlias = npt.NDArray[np.uint8]
"""[H, W], 0 or 255."""
Vectors: TypeAlias = npt.NDArray[np.floating[Any]]
"""float32, or float16 of a file that is memory-mapped."""
Floats: TypeAlias = npt.NDArray[np.float32]
Doubles: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int32]
Indices: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
