"""Make one page of result files: the verb `cstl-edge bench report` as a script.

python benchmarks/report.py benchmarks/results/MACHINE/*.jsonl -o bench.html --markdown bench.md
python benchmarks/report.py runs/bench/*.jsonl --against COMMIT -o bench.html
"""

import sys

from cstl_edge.cli.app import main

if __name__ == "__main__":
    sys.argv[:1] = ["cstl-edge", "bench", "report"]
    main()
