"""Accuracy of a trained peer on Walkers that no training saw."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from cstl_edge.bench.record import Case, Row
from cstl_edge.evaluation.closed_set import Metrics
from cstl_edge.evaluation.embed import embed
from cstl_edge.evaluation.evaluate import evaluate
from cstl_edge.evaluation.held_out import HeldOut
from cstl_edge.reproduce.peers.encoder import PeerEncoder
from cstl_edge.reproduce.rows import hits_by_person
from cstl_edge.runtime.base import Encoder
from peers.cost import About, MeasuredPeer
from peers.networks import FRAMES
from peers.running import as_peer
from peers.training import load


def accuracy_row(name: str, weights: Path, held: HeldOut, about: About) -> Row:
    """Embed the held-out people with a trained network and return its row of rank-1 figures.

    Args:
        name: Name of the network.
        weights: File in the folder of the run, which keeps the embeddings too.
        held: The test people.
        about: Fields of every row.
    """
    model, training = load(name, weights)
    peer, sha256, threads = as_peer(model), training["weights_sha256"], torch.get_num_threads()
    encoder = cast(Encoder, PeerEncoder(peer, weights.parent.name, sha256))
    folder = weights.parent / "embeddings"
    embedded = embed(encoder, held.data, folder, held.rows, source=held.source)
    result = evaluate(embedded, held.protocol)
    metrics: dict[str, Metrics] = {
        f"rank1_{name}": row for name, row in result["conditions"].items()
    }
    metrics["rank1"] = result["mean"]
    spent = {"iterations": training["iterations"], "training_s": training["processor_s"]}
    return MeasuredPeer(name, peer, sha256, threads, trained=True).row(
        "pytorch",
        about,
        case=Case(graph="full", frames=FRAMES),
        values={name: row["rank-1"] for name, row in metrics.items()} | spent,
        intervals={name: tuple(row["rank-1_95"]) for name, row in metrics.items()},
        details={
            "hits": hits_by_person(embedded.labelled, held.protocol),
            "data": held.description,
            "people": result["people"],
            "training": training,
        },
    )
