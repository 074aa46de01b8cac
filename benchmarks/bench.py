"""Measure this machine: the verb `cstl-edge bench` as a script.

python benchmarks/bench.py --short
"""

import sys

from cstl_edge.cli.app import main

if __name__ == "__main__":
    sys.argv[:1] = ["cstl-edge", "bench"]
    main()
