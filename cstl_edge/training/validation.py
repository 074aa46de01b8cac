"""Validation during training: rank-1 in the protocol that the dataset is reported in.

Letters: `m` sequences, `s` frames, `h w` pixels, `p` parts, `d` embedding dimensions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from cstl_edge.arrays import Floats, Indices
from cstl_edge.checkpoint.weights import inference_tensors
from cstl_edge.data.sampling import Sequences
from cstl_edge.data.splits import LabelledSequences
from cstl_edge.evaluation.closed_set import evaluate_closed_set
from cstl_edge.evaluation.embeddings import LabelledEmbeddings
from cstl_edge.evaluation.protocols import choose_protocol, select_trials
from cstl_edge.model import Cstl
from cstl_edge.training.run_state import TrainingRun, ValidationRecord

BATCH_FRAMES = 1024  # in one call of the network: a few hundred MB at the paper's widths


def validate(run: TrainingRun, data: LabelledSequences) -> ValidationRecord:
    """Evaluate rank-1 of the weights that would be saved now, in float32.

    `rank1`, with its 95 % interval over people, is the mean over the conditions of the protocol
    that goes with the names of the recordings; identical views are excluded where it has views.
    Raises DataError for people who cannot be tested by it.
    """
    embeddings = embed_sequences(inference_network(run), data)
    labelled = LabelledEmbeddings(embeddings, data.people, data.sequences, data.views_deg)
    protocol = choose_protocol(data.sequences.tolist())
    metrics = evaluate_closed_set(labelled, select_trials(labelled, protocol))
    record: ValidationRecord = {
        "iteration": run.iteration,
        "elapsed_s": round(run.elapsed_s, 1),
        "protocol": protocol,
        "rank1": metrics["mean"]["rank-1"],
        "rank1_95": metrics["mean"]["rank-1_95"],
    }
    by_condition = {name: row["rank-1"] for name, row in metrics["conditions"].items()}
    if len(by_condition) > 1:
        record.update(by_condition)  # type: ignore[typeddict-item]  # names are nm, bg and cl
    return record


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
    """Embed whole sequences; the batches do not change the result.

    Args:
        network: In evaluation mode.
        data: m sequences.
        batch_frames: Frames of a batch, padding included; a longer sequence is a batch of its own.

    Returns:
        Embeddings [m, p, d].
    """
    device = next(network.parameters()).device
    blocks: list[Floats] = []
    order = np.argsort(data.lengths, kind="stable")  # equal lengths together: little padding
    for rows in _batches(order, data.lengths, batch_frames):
        lengths = data.lengths[rows]
        sequences = [data.read(int(row)) for row in rows]
        padded = np.zeros((len(rows), int(lengths.max()), *sequences[0].shape[1:]), np.uint8)
        for place, sequence in zip(padded, sequences, strict=True):
            place[: len(sequence)] = sequence
        ends = torch.from_numpy(lengths.astype(np.int32)).to(device)
        embedding, _ = network(torch.from_numpy(padded).to(device), ends)  # [n, p, d]
        blocks.append(embedding.cpu().numpy())
    return np.concatenate(blocks)[np.argsort(order, kind="stable")]


def _batches(order: Indices, lengths: Indices, batch_frames: int) -> list[Indices]:
    """Split rows, sorted by length, into batches of at most so many frames."""
    batches, start = [], 0
    for end in range(1, len(order) + 1):
        if end == len(order) or lengths[order[end]] * (end + 1 - start) > batch_frames:
            batches.append(order[start:end])
            start = end
    return batches
