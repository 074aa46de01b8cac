"""Fixtures of reproduce: four people of noise silhouettes, three iterations."""

import numpy as np
import pytest
import torch
from shard_files import write_shard

from cstl_edge.evaluation.embeddings import GALLERY, PROBES
from cstl_edge.training import command

NAMES = (*GALLERY, *(name for names in PROBES.values() for name in names))
PEOPLE, VIEWS_DEG, FRAMES = (101, 102, 103, 104), (0, 90), 4

SMALL = """
model: {widths: [2, 2, 4, 4], parts: 4, embedding: 4}
walkers: {people: 2, frames: 2}
sampler: {people: 2, sequences: 2, frames: 3}
run: {iterations: 3, log_every: 1, threads: 1}
"""


@pytest.fixture(scope="module", autouse=True)
def small_process():
    """One thread, and nothing else that is global to the process: denormals count elsewhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks this small only wait for a second one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "prepare_process", lambda settings: None)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def budget(tmp_path_factory):
    file = tmp_path_factory.mktemp("budget") / "tiny.yaml"
    file.write_text(SMALL)
    return str(file)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    rows = [(person, name, view) for person in PEOPLE for name in NAMES for view in VIEWS_DEG]
    people, names, views = zip(*rows, strict=True)
    noise = rng.integers(0, 2, (len(rows), FRAMES, 64, 44), np.uint8) * 255
    folder = tmp_path_factory.mktemp("data")
    write_shard(folder / "all", noise, people=people, sequences=names, views_deg=views)
    return str(folder)
