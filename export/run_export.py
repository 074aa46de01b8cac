"""Export trained weights to ONNX: the verb `cstl-edge export` as a script.

python export/run_export.py weights.safetensors -o model/ --precision fp16,int8
"""

import sys

from cstl_edge.cli.app import main

if __name__ == "__main__":
    sys.argv[:1] = ["cstl-edge", "export"]
    main()
