#!/usr/bin/env bash
# The first run on a GPU without TensorRT, in at most ten minutes: kernel, plugin, CUDA graphs, the network in half precision, bench.
#
# The machine needs an NVIDIA driver, nvcc and torch; no network. In the checkout beforehand, into `.gpu/` (ignored by git):
#   pip download --no-deps -d .gpu/wheels 'cuda-bindings==13.*' cuda-pathfinder
#   .gpu/headers/v10.3.0/include, .gpu/headers/v11.1/include: of NVIDIA/TensorRT's public tags, never committed
#   if wanted: pip download --no-deps -d .gpu/wheels tensorrt-lean-cu12-libs tensorrt-lean-cu12-bindings
# There: OUT=out bash benchmarks/gpu/check.sh [architecture]     (90 by default; writes into $OUT alone)
#
# Every step has a time limit of its own and the next one follows a failure; the last lines say which passed.
set -u
cd "$(dirname "$0")/../.."
root=$PWD here=$PWD/benchmarks/gpu carried=$PWD/.gpu out=${OUT:-out} sm=${1:-90}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
export PYTHONPATH=$work/site:$root PYTHONUNBUFFERED=1 XDG_CACHE_HOME=$work/cache CUDA_MODULE_LOADING=LAZY
passed=() failed=()
step() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2 start=$SECONDS code=0
    shift 2
    printf '\n##### %s\n' "$name"
    timeout "$limit" "$@" || code=$?
    if [ "$code" = 0 ]; then passed+=("$name"); else failed+=("$name($code)"); fi
    echo "##### $name exit $code, $((SECONDS - start)) s"
}
wheels() { find "$carried/wheels" -name '*.whl' "$@" 2>/dev/null; }
{
step environment 20 bash -c 'nvidia-smi -q -d CLOCK,POWER,PERFORMANCE | head -60; nvcc --version | tail -1; python3 -c "import torch; print(torch.__version__, torch.cuda.get_device_name())"; nproc'
step wheels 60 python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$work/site" $(wheels -not -name '*lean*')
for version in v10.3.0 v11.1; do
    headers=$carried/headers/$version
    step "plugin build $version" 90 python3 -m cstl_edge plugin build --tensorrt-root "$headers" --architectures "$sm"
    step "enqueue $version" 60 bash -c "nvcc -std=c++17 -arch=sm_$sm -lineinfo -I'$root/cstl_edge/csrc' -isystem '$headers/include' '$here/plugin_check.cpp' '$root/cstl_edge/csrc/part_gather.cu' '$root/cstl_edge/csrc/part_gather_plugin.cpp' -o '$work/plugin-$version' && '$work/plugin-$version'"
done
step doctor 40 python3 -m cstl_edge doctor
for tool in memcheck racecheck initcheck; do # not on gVisor, where "Device not supported" says nothing
    step "sanitizer $tool" 60 compute-sanitizer --tool "$tool" --error-exitcode 9 "$work/plugin-v11.1"
done
step "tests on the GPU" 120 python3 -m pytest -q -p no:cacheprovider --import-mode=importlib -m gpu tests/csrc tests/runtime/cuda -o addopts="" -rs
step slots 60 python3 "$here/slots.py"
step part_gather 60 python3 benchmarks/part_gather.py --repeats 200 --out "$out/part_gather.jsonl"
step profile 40 ncu --clock-control none -k regex:partGather --metrics gpu__time_duration.sum,dram__bytes.sum,l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum,sm__warps_active.avg.pct_of_peak_sustained_active -c 12 "$work/plugin-v11.1"
step network 60 python3 "$here/network.py"
step bench 100 python3 -m cstl_edge bench --short --network paper --scenario roofline,graph --out "$out/bench.jsonl"
if [ -n "$(wheels -name 'tensorrt_lean*')" ]; then
    mkdir -p "$work/lean"
    for wheel in $(wheels -name 'tensorrt_lean*'); do python3 -m zipfile -e "$wheel" "$work/lean"; done
    step "lean runtime" 60 python3 "$here/lean.py" "$work/lean" "$XDG_CACHE_HOME/cstl-edge/plugin/$(uname -m)/libcstl_part_gather_trt11.so"
fi
printf '\nPASSED: %s\nFAILED: %s\ntotal %s s\n' "${passed[*]:-none}" "${failed[*]:-none}" "$SECONDS"
} 2>&1 | tee "$out/check.log"
