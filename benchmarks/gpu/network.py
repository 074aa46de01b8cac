"""Run the paper's network on a GPU through PyTorch: half precision beside the CPU, times as graphs.

python benchmarks/gpu/network.py     exits with 4 where there is no GPU

Is float16 safe on real half kernels (gates, sums)? The times are the yardstick for engines.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.model.export_head import ExportHead

WALKERS, FRAMES = 8, 30
WARM_UP, RUNS = 20, 200


def main() -> int:
    """Compare every type with float32 on the CPU, and time it."""
    if not torch.cuda.is_available():
        print("expected an NVIDIA GPU; found none")
        return 4
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    network = Cstl(CstlConfig()).eval().fused()
    shape = (WALKERS, FRAMES, *network.config.size)
    silhouettes = (torch.rand(shape) > 0.5).to(torch.uint8) * 255
    lengths = torch.tensor([30, 30, 7, 1, 29, 30, 12, 30], dtype=torch.int32)
    finite = True
    with torch.inference_mode():
        features = _features(network, silhouettes)
        expected, chosen = ExportHead(network)(features, lengths)
        for kind in (torch.float32, torch.float16, torch.bfloat16):
            there = copy.deepcopy(network).to("cuda", kind)
            found = _features(there, silhouettes.cuda())
            embedding, frames = ExportHead(there)(found, lengths.cuda())
            cosine = torch.nn.functional.cosine_similarity(embedding.float().cpu(), expected, dim=2)
            off = float((found.float().cpu() - features).abs().max())
            others = int((frames.cpu() != chosen).sum())
            finite &= bool(torch.isfinite(embedding).all())
            print(f"{kind}: features off by {off:g}, least cosine {float(cosine.min()):.6f}, "
                  f"{others} of {chosen.numel()} salient frames differ")  # fmt: skip
            _time(there, silhouettes.cuda(), found, lengths.cuda())
    return 0 if finite else 1


def _features(network: Cstl, silhouettes: torch.Tensor) -> torch.Tensor:
    """Return part features [n, s, p, c] of silhouettes [n, s, h, w]."""
    n, s = silhouettes.shape[:2]
    frames = silhouettes.reshape(n * s, *silhouettes.shape[2:])
    return network.frame_features(frames).reshape(n, s, *network.feature_shape)


def _time(
    network: Cstl, silhouettes: torch.Tensor, features: torch.Tensor, lengths: torch.Tensor
) -> None:
    """Print the time of one call each, as a CUDA graph without copies."""
    head = ExportHead(network)
    calls: dict[str, Callable[[], Any]] = {}
    for n in (1, WALKERS):
        frames, windows, ends = silhouettes[0, :n], features[:n].contiguous(), lengths[:n]
        calls[f"frames m={n}"] = partial(network.frame_features, frames)
        calls[f"head n={n}"] = partial(head, windows, ends)
    cuda: Any = torch.cuda  # whose streams and events are not annotated
    stream = cuda.Stream()
    for name, call in calls.items():
        try:
            with torch.cuda.stream(stream):
                for _ in range(3):
                    call()
                stream.synchronize()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, stream=stream):
                    call()
        except RuntimeError as err:
            print(f"   {name}: no graph: {str(err).splitlines()[0][:100]}")
            continue
        first, last = (cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                graph.replay()
            first.record()
            for _ in range(RUNS):
                graph.replay()
            last.record()
            stream.synchronize()
        print(f"   {name}: {1e3 * first.elapsed_time(last) / RUNS:.1f} us per graph (no copies)")


if __name__ == "__main__":
    sys.exit(main())
