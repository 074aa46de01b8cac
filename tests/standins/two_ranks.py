"""A training that one process and two must agree in; torchrun's agent starts `main` per rank."""

import signal

import torch
import torch._dynamo  # DistributedDataParallel imports both: once here, not in each rank
import torch.distributed.tensor
from safetensors.torch import save_file
from standin_people import TINY, Bars

from cstl_edge.config import load_config
from cstl_edge.training.distributed import join_ranks
from cstl_edge.training.run_state import start_run
from cstl_edge.training.settings import TrainConfig
from cstl_edge.training.trainer import TrainingStep, train

CASES = {"one batch": [], "two batches": ["run.accumulate=2", "optimiser.average_decay=0.9"]}


def configuration(case):
    # 4 people of 2: each process has two of them, and half of the triplets cross the processes
    changes = ["sampler.people=4", "run.iterations=6", "run.log_every=1", *CASES[case]]
    return load_config(TrainConfig, None, [*TINY, *changes])


def first_gradient(case, folder):
    """The run, and gradients, statistics and losses of its first iteration, in float64.

    The root in the triplet loss is steep where sequences all but coincide, as those of Bars do.
    """
    run = start_run(configuration(case), Bars())
    generator = torch.Generator().manual_seed(0)  # the class matrix starts at zero
    torch.nn.init.normal_(run.model.class_head.weight, generator=generator)
    run.model.double()
    step = TrainingStep(run, folder)
    count = run.config.run.accumulate
    losses = [step.backward(run.sampler.batch(i), last=i == count - 1) for i in range(count)]
    tensors = {name: p.grad for name, p in run.model.named_parameters()}
    tensors |= {name: tensor for name, tensor in run.model.named_buffers() if "running" in name}
    tensors["losses"] = torch.tensor(
        [[x.total, x.triplet, x.cross_entropy, x.nonzero] for x in losses]
    )
    return run, tensors


def main(folder):
    """Leave in a folder, per case, the first gradient and a run of six iterations."""
    signal.alarm(100)  # a rank that waits for the other one ends, and with it the test
    torch.set_num_threads(1)
    with join_ranks(torch.device("cpu")) as ranks:
        for case in CASES:
            run, tensors = first_gradient(case, folder)
            assert run.ranks == ranks
            assert ranks.count == 2
            if ranks.is_first:
                save_file(tensors, folder / f"{case}.safetensors")
            train(configuration(case), Bars(), folder / f"{case} of {ranks.rank}")
