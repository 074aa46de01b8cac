"""Helpers of the training tests: smallest configuration, readers of run files, child process."""

import json
import os

import pytest
from safetensors.torch import load_file
from standin_people import TINY

from cstl_edge.config import load_config
from cstl_edge.training.settings import TrainConfig


def config(*overrides):
    return load_config(TrainConfig, None, [*TINY, *overrides])


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def tensor_bytes(path):
    return {key: tensor.numpy().tobytes() for key, tensor in load_file(path).items()}


@pytest.fixture
def in_child():
    """Run `work` in a fork of this process, which ends by it or by a signal; return its pid."""

    def fork(work):
        pid = os.fork()
        if pid == 0:
            try:
                work()
            finally:
                os._exit(0)
        return pid

    return fork
