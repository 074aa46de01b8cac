"""Accuracy of a trained peer on Walkers that no training saw.

Letters: n sequences, s frames, h w pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch

from cstl_edge.arrays import Ints, Silhouettes
from cstl_edge.bench.record import Case, Row
from cstl_edge.evaluation.closed_set import Metrics
from cstl_edge.evaluation.embed import embed
from cstl_edge.evaluation.evaluate import evaluate
from cstl_edge.evaluation.held_out import HeldOut
from cstl_edge.reproduce.rows import hits_by_person
from cstl_edge.runtime.base import Embedded, Encoder, EncoderInfo
from peers.blocks import SIZE, Peer
from peers.cost import About, MeasuredPeer
from peers.networks import FRAMES
from peers.running import as_peer
from peers.training import load


class PeerEncoder:
    """A peer as an encoder of whole sequences, for `evaluation.embed`."""

    def __init__(self, peer: Peer, name: str, weights_sha256: str) -> None:
        self._peer = peer.eval()
        self.info = EncoderInfo(
            backend="pytorch",
            provider="cpu",
            precision="float32",
            threads=torch.get_num_threads(),
            model_name=name,
            weights_sha256=weights_sha256,
            size=SIZE,
            parts=peer.parts,
            channels=0,  # nothing of it is one feature per part and frame
            embedding=peer.embedding,
        )

    def encode(self, silhouettes: Silhouettes, lengths: Ints | None = None) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w], of which `lengths` [n] frames count."""
        n, s = silhouettes.shape[:2]
        ends = [s] * n if lengths is None else lengths.tolist()
        with torch.inference_mode():
            if len(set(ends)) == 1:
                embeddings = self._peer(torch.tensor(silhouettes[:, : ends[0]]))
            else:  # no peer masks padding: each sequence by itself
                walks = zip(silhouettes, ends, strict=True)
                alone = [self._peer(torch.tensor(walk[None, :end])) for walk, end in walks]
                embeddings = torch.cat(alone)
        vectors = np.asarray(embeddings.numpy(), np.float32)  # [n, p, d]
        return Embedded(vectors, np.full(vectors.shape[:2], -1, np.int32))


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
