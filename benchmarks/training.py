"""Measure an iteration of training by the choices of arithmetic, as ratios to plain float32.

    python benchmarks/training.py --out benchmarks/results/DEVICE/training_speed.jsonl

Forward, losses, backward and Adam on one batch of noise: the cost does not depend on the data.
All choices in one process, in turn, so that other work of the machine meets all of them alike. On
a processor the figure is processor time, which others disturb least; on a GPU it is time. Beside it
stand sequences per second, and the share of the machine's peak arithmetic in that precision, which
is measured in the same run; multiply-adds are counted by PyTorch, forward and backward.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from study import append_record, run_study, study_parser
from torch.utils.flop_counter import FlopCounterMode

from cstl_edge.bench.roofline.peaks import best_arithmetic
from cstl_edge.config import load_config
from cstl_edge.measure.stats import percentile
from cstl_edge.training.presets import SHIPPED, find_preset
from cstl_edge.training.run_state import prepare_process, start_run
from cstl_edge.training.settings import TrainConfig
from cstl_edge.training.trainer import TrainingStep

CHOICES: dict[str, dict[str, Any]] = {
    "float32": {},
    "float32, channels last": {"channels_last": True},
    "float32, channels last, compiled": {"channels_last": True, "compile": True},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, channels last": {"precision": "bfloat16", "channels_last": True},
    "float16, channels last": {"precision": "float16", "channels_last": True},
}
PLAIN = "float32"
PEAK_S = 0.3  # per kernel


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
        silhouettes: npt.NDArray[np.uint8] = self._drawn[sequence]
        return silhouettes


def iteration(step: TrainingStep) -> tuple[float, float]:
    """Return processor time and time of one iteration [ms]."""
    batch, on_gpu = step.run.sampler.batch(0), step.run.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
    cpu, start = time.process_time(), time.perf_counter()
    step.backward(batch, last=True)
    step.update()
    if on_gpu:
        torch.cuda.synchronize()
    return 1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - start)


def multiply_adds(step: TrainingStep) -> float:
    """Return the multiply-adds of one iteration, forward and backward [10^9]."""
    with FlopCounterMode(display=False) as counter:
        iteration(step)
    return float(counter.get_total_flops()) / 2e9


def shares_of_peak(
    work_gmac: float, p50_ms: dict[str, float], peaks: dict[str, float]
) -> dict[str, float]:
    """Return the share of the peak in its precision that each choice reached, where there is one.

    Args:
        work_gmac: Multiply-adds of an iteration [10^9].
        p50_ms: Median time by choice; its name begins with the precision.
        peaks: Peaks by precision [10^9 multiply-adds/s].

    >>> shares_of_peak(3.0, {"float32, channels last": 60.0, "float16": 9.0}, {"float32": 100.0})
    {'float32, channels last': 0.5}
    """
    kinds = {name: name.split(",")[0] for name in p50_ms}
    return {
        name: round(work_gmac / (ms / 1e3) / peaks[kinds[name]], 3)
        for name, ms in p50_ms.items()
        if kinds[name] in peaks
    }


def measure(preset: str, changes: list[str], rounds: int) -> dict[str, Any]:
    """Time every choice in turn; return the record.

    Args:
        preset: Network and batch.
        changes: `key=value` texts over the preset.
        rounds: Number of iterations of each choice.
    """
    config = load_config(TrainConfig, find_preset(preset), changes)
    prepare_process(config.run)
    drawn = config.sampler
    data = Noise(drawn.people, drawn.sequences, drawn.frames, config.network(0).size)
    steps = {}
    for name, choice in CHOICES.items():
        plain = {"precision": "float32", "channels_last": False, "compile": False}
        run = config.run.model_copy(update={**plain, **choice})
        steps[name] = TrainingStep(start_run(config.model_copy(update={"run": run}), data), Path())
        iteration(steps[name])  # compiles
    work_gmac = multiply_adds(steps[PLAIN])
    raw: dict[str, list[tuple[float, float]]] = {name: [] for name in CHOICES}
    for _ in range(rounds):
        for name, step in steps.items():
            raw[name].append(iteration(step))
    on_gpu = steps[PLAIN].run.device.type == "cuda"
    p50 = {name: percentile([x[on_gpu] for x in times], 50) for name, times in raw.items()}
    peaks = best_arithmetic(torch.get_num_threads(), "gpu" if on_gpu else "cpu", PEAK_S)
    return {
        "measure": "time" if on_gpu else "processor time",
        "gmac_per_iteration": round(work_gmac, 1),
        "peak_gmacs_per_s": {name: round(rate, 1) for name, rate in peaks.items()},
        "share_of_peak": shares_of_peak(work_gmac, p50, peaks),
        "sequences_per_s": {
            name: round(1e3 * len(data.people) / ms, 2) for name, ms in p50.items()
        },
        "frames": drawn.people * drawn.sequences * drawn.frames,
        "p50_ms": {name: round(ms, 1) for name, ms in p50.items()},
        "times_as_fast": {name: round(p50[PLAIN] / ms, 2) for name, ms in p50.items()},
        "raw_processor_ms_and_ms": raw,
    }


def study(args: argparse.Namespace) -> None:
    """Measure, print the ratios, append the raw record."""
    changes = ["optimiser.frozen_layers=0", "run.threads=1", *args.override]
    record = measure(args.preset, changes, args.rounds)
    hidden = ("measure", "raw_processor_ms_and_ms")
    print(json.dumps({key: value for key, value in record.items() if key not in hidden}, indent=1))
    about = {"preset": args.preset, "overrides": changes, "note": args.note}
    append_record(args.out, "training_speed", about | record)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("--preset", default=SHIPPED, help="network and batch")
    parser.add_argument("-o", dest="override", action="append", default=[], help="key=value")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--note", default="", help="what else the machine did")
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
