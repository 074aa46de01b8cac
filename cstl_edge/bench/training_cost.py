"""What an iteration of training takes, and how near that is to what the machine can do."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from cstl_edge.training.step import Step


class Noise:
    """Sequences in which every pixel is drawn, a few for each person, for `start_run`."""

    people: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    def __init__(self, people: int, sequences: int, frames: int, size: tuple[int, int]) -> None:
        """Draw `people` × `sequences` of them."""
        rng = np.random.default_rng(0)
        self.people = np.repeat(np.arange(people), sequences)
        self.lengths = np.full(len(self.people), frames, np.int64)
        self._drawn = rng.integers(0, 256, (len(self.people), frames, *size), np.uint8)

    def read(self, sequence: int) -> npt.NDArray[np.uint8]:
        """Return one of them, [s, h, w]."""
        drawn: npt.NDArray[np.uint8] = self._drawn[sequence]
        return drawn


def iteration(step: Step) -> tuple[float, float]:
    """Return processor time and time of one iteration [ms]."""
    import torch

    batch, on_gpu = step.run.sampler.batch(0), step.run.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
    cpu, start = time.process_time(), time.perf_counter()
    step.learn(batch, last=True)
    step.update()
    if on_gpu:
        torch.cuda.synchronize()
    return 1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - start)


def multiply_adds(step: Step) -> float:
    """Return the multiply-adds of one iteration, forward and backward [10^9]."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        iteration(step)
    return float(counter.get_total_flops()) / 2e9


def shares(work_gmac: float, p50_ms: dict[str, float], peaks: dict[str, float]) -> dict[str, float]:
    """Return the share of the peak in its precision that each choice reached, where there is one.

    >>> shares(3.0, {"float32, channels last": 60.0, "float16": 9.0}, {"float32": 100.0})
    {'float32, channels last': 0.5}
    """
    kinds = {name: name.split(",")[0] for name in p50_ms}
    return {
        name: round(work_gmac / (ms / 1e3) / peaks[kinds[name]], 3)
        for name, ms in p50_ms.items()
        if kinds[name] in peaks
    }
