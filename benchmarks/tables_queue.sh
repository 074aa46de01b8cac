#!/bin/bash
# Trains Tables 3 to 5 and the neighbours anew after the class head's mend (2026-11-30), most
# important rows first: nice bash benchmarks/tables_queue.sh [SEEDS]
#
# Every row is a command that resumes where it was killed and does nothing once it is done, so the
# queue may be stopped (Ctrl-C) and started again on any day; runs/ keeps the rows. 5 to 22 minutes
# a row on one core. SEEDS: "1" (default), then "2 3" for the rows that the paper's claims rest on.
set -u
seeds=${1:-1}
export OMP_NUM_THREADS=1
status=0

row() { # TABLE ROW SEED
    echo "== $1, $2, seed $3"
    cstl-edge reproduce "$1" --budget small --row "$2" -o "run.seed=$3" --workers 1 || {
        status=$?
        [ "$status" -ge 130 ] && exit "$status"
    }
}

peers() { # SEED NETWORK...
    local seed=$1
    shift
    for step in train evaluate; do
        python benchmarks/compare_peers.py "$step" --seed "$seed" --networks "$@" || {
            status=$?
            [ "$status" -ge 130 ] && exit "$status"
        }
    done
}

for seed in $seeds; do
    row table3 "CSTL" "$seed"
    row table3 "baseline" "$seed"
    row table3 "baseline + MSTE + SSFL" "$seed"
    row table3 "baseline + MSTE + ATA" "$seed"
    row table3 "baseline + MSTE" "$seed"
    peers "$seed" "CSTL" "GaitSet"
    [ "$seed" = 1 ] || continue # further seeds: only what the claims rest on
    for name in "frame" "short" "long" "frame + short" "frame + long" "short + long"; do
        row table4 "$name" "$seed"
    done
    row table5 "average pooling" "$seed"
    peers "$seed" "CSTL without SSFL" "GaitPart" "GLN" "MT3D-style reconstruction"
done
python benchmarks/tables.py --budget small --tables table3,table4,table5 --out runs/tables.md
exit "$status"
