"""Train CSTL: the verb `cstl-edge train` as a script.

python train/run_train.py cstl-walkers --minutes 80
torchrun --nproc-per-node 4 train/run_train.py cstl-ou-mvlp --data data/ou-mvlp
"""

import sys

from cstl_edge.cli.app import main

if __name__ == "__main__":
    sys.argv[:1] = ["cstl-edge", "train"]
    main()
