"""Make tests/golden/tiny_reduced: a small network in float32, fp16 and int8, on small data.

tiny.safetensors is its checkpoint, with random weights. tests/golden/tiny, with the expected
outputs in tiny_expected.npz, is the same network as an earlier version exported it: its part gather
is version 1 ([n, p, s, c]), and every later version has to open it. It is not made again.

Run from the project root where torch is: python tests/golden/make_tiny_export.py
The tests that read the folders need neither torch nor the network's code.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from cstl_edge.export.export_model import export_model

GOLDEN = Path(__file__).parent
SMALL_DATA = GOLDEN.parent / "export" / "conftest.py"


def main() -> int:
    export_model(
        GOLDEN / "tiny.safetensors",
        GOLDEN / "tiny_reduced",
        graphs=("frames", "head", "full"),
        precisions=("fp16", "int8"),
        gather=runpy.run_path(str(SMALL_DATA))["small_data"],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
