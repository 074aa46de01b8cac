"""Build TensorRT engines of an exported model: the verb `cstl-edge build` as a script.

python export/build_engines.py model/                    # for the GPU of this machine
python export/build_engines.py model/ --for rtx-sm89     # ahead of time, on any CPU
"""

import sys

from cstl_edge.cli.app import main

if __name__ == "__main__":
    sys.argv[:1] = ["cstl-edge", "build"]
    main()
