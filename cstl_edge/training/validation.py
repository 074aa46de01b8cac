"""Validation during training: rank-1 in the protocol that the dataset is reported in.

Letters: `m` sequences, `s` frames, `h w` pixels, `p` parts, `d` embedding dimensions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cstl_edge.arrays import Floats
from cstl_edge.checkpoint.weights import inference_tensors
from cstl_edge.data.sampling import Sequences
from cstl_edge.data.splits import LabelledSequences
from cstl_edge.evaluation.closed_set import evaluate_closed_set
from cstl_edge.evaluation.embed import pad, split_rows
from cstl_edge.evaluation.embeddings import LabelledEmbeddings
from cstl_edge.evaluation.protocols import choose_protocol, select_trials
from cstl_edge.model import Cstl
from cstl_edge.training.run_state import TrainingRun

BATCH_FRAMES = 1024  # in one call of the network: a few hundred MB at the paper's widths


def validate(run: TrainingRun, data: LabelledSequences) -> dict[str, Any]:
    """Evaluate rank-1 of the weights that would be saved now, in float32.

    `rank1`, with its 95 % interval over people, is the mean over the conditions of the protocol
    that goes with the names of the recordings; identical views are excluded where it has views. The
    record is a line of the log, and `evaluation` in the header of the best weights.
    Raises DataError for people who cannot be tested by it.
    """
    embeddings = embed_sequences(inference_network(run), data)
    labelled = LabelledEmbeddings(embeddings, data.people, data.sequences, data.views_deg)
    protocol = choose_protocol(data.sequences.tolist())
    metrics = evaluate_closed_set(labelled, select_trials(labelled, protocol))
    by_condition = {name: row["rank-1"] for name, row in metrics["conditions"].items()}
    return {
        "iteration": run.iteration,
        "elapsed_s": round(run.elapsed_s, 1),
        "protocol": protocol,
        "rank1": metrics["mean"]["rank-1"],
        "rank1_95": metrics["mean"]["rank-1_95"],
        **(by_condition if len(by_condition) > 1 else {}),
    }


def inference_network(run: TrainingRun) -> Cstl:
    """Return a network that shares the weights to save, without class head, in evaluation mode."""
    config = replace(run.model.config, classes=0)
    with torch.device("meta"):  # no first weights: these would draw from the run's random numbers
        network = Cstl(config)
    state = inference_tensors(run.inference_state(), config)
    network.load_state_dict(state, assign=True)
    return network.eval()


@torch.inference_mode()
def embed_sequences(network: Cstl, data: Sequences, batch_frames: int = BATCH_FRAMES) -> Floats:
    """Return the embeddings [m, p, d] of whole sequences; the batches do not change the result.

    Args:
        network: Network in evaluation mode.
        data: m sequences.
        batch_frames: Frames of a batch, padding included; a longer sequence is a batch of its own.
    """
    device = next(network.parameters()).device
    blocks: list[Floats] = []
    order = np.argsort(data.lengths, kind="stable")  # equal lengths together: little padding
    for rows in split_rows(order, data.lengths[order], batch_frames, len(order)):
        batch = pad([data.read(int(row)) for row in rows], network.config.size)
        embedding, _ = network(*(torch.from_numpy(part).to(device) for part in batch))  # [n, p, d]
        blocks.append(embedding.cpu().numpy())
    return np.concatenate(blocks)[np.argsort(order, kind="stable")]
