"""Rank-1 of a network in training, by the protocol that its dataset is reported in.

Letters: `m` sequences, `s` frames, `h w` pixels, `p` parts, `d` embedding dimensions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cstl_edge.arrays import Floats
from cstl_edge.checkpoint.weights import inference_tensors
from cstl_edge.data.sampling import Sequences
from cstl_edge.data.splits import Labelled
from cstl_edge.evaluation.closed_set import METRICS, match
from cstl_edge.evaluation.embeddings import Walks
from cstl_edge.evaluation.protocols import choose, trials
from cstl_edge.model import Cstl
from cstl_edge.training.run_state import Run

RANK1 = METRICS[0]
FRAMES = 1024  # in one call of the network: a few hundred MB at the paper's widths


def evaluate(run: Run, test: Labelled) -> dict[str, Any]:
    """Return rank-1 of the weights that would be saved now, computed in float32.

    `rank1`, with its 95 % interval over people, is the mean over the conditions of the protocol
    that goes with the names of the recordings; identical views are excluded where it has views.
    Raises DataError when the people cannot be tested by it.
    """
    found = embed(inference_network(run), test)
    walks = Walks(found, test.people, test.sequences, test.views_deg)
    protocol = choose(test.sequences.tolist())
    result = match(walks, trials(walks, protocol))
    by_condition = {name: row[RANK1] for name, row in result["conditions"].items()}
    return {
        "iteration": run.iteration,
        "elapsed_s": round(run.elapsed_s, 1),
        "protocol": protocol,
        "rank1": result["mean"][RANK1],
        "rank1_95": result["mean"][f"{RANK1}_95"],
        **(by_condition if len(by_condition) > 1 else {}),
    }


def inference_network(run: Run) -> Cstl:
    """Return a network that shares the weights to save, without class head, in evaluation mode."""
    config = replace(run.model.config, classes=0)
    with torch.device("meta"):  # no first weights: these would draw from the run's random numbers
        network = Cstl(config)
    state = inference_tensors(run.inference_state(), config)
    network.load_state_dict(state, assign=True)
    return network.eval()


@torch.inference_mode()
def embed(network: Cstl, data: Sequences, frames: int = FRAMES) -> Floats:
    """Return the embeddings of whole sequences, [m, p, d], whatever the batches.

    frames: most of one batch, padding included, unless one sequence alone has more
    """
    device = next(network.parameters()).device
    found: list[Floats] = []
    order = np.argsort(data.lengths, kind="stable")  # equal lengths together: little padding
    for rows in _batches(order, data.lengths, frames):
        lengths = data.lengths[rows]
        walks = [data.read(int(row)) for row in rows]
        block = np.zeros((len(rows), int(lengths.max()), *walks[0].shape[1:]), np.uint8)
        for place, walk in enumerate(walks):
            block[place, : len(walk)] = walk
        ends = torch.from_numpy(lengths.astype(np.int32)).to(device)
        embedding, _ = network(torch.from_numpy(block).to(device), ends)  # [n, p, d]
        found.append(embedding.cpu().numpy())
    return np.concatenate(found)[np.argsort(order, kind="stable")]


def _batches(
    order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], frames: int
) -> list[npt.NDArray[np.int64]]:
    """Cut rows, sorted by length, into batches of at most so many frames."""
    batches, start = [], 0
    for end in range(1, len(order) + 1):
        if end == len(order) or lengths[order[end]] * (end + 1 - start) > frames:
            batches.append(order[start:end])
            start = end
    return batches
