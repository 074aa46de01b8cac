"""A peer as an encoder of whole sequences, for `evaluation.embed`. Letters: n, s, p, d as usual."""

from __future__ import annotations

import numpy as np
import torch

from cstl_edge.arrays import Ints, Silhouettes
from cstl_edge.reproduce.peers.blocks import SIZE, Peer
from cstl_edge.runtime.base import Embedded, EncoderInfo


class PeerEncoder:
    """A network that encodes sequences, one by one where their lengths differ."""

    def __init__(
        self, peer: Peer, name: str, weights_sha256: str, size: tuple[int, int] = SIZE
    ) -> None:
        """Wrap a network.

        Args:
            peer: Network.
            name: Its name, for stored embeddings.
            weights_sha256: Identifier of its weights.
            size: Height and width of a silhouette [pixels].
        """
        self._peer = peer.eval()
        self._device = next(peer.parameters()).device
        self.info = EncoderInfo(
            backend="pytorch",
            provider=self._device.type,
            precision="float32",
            threads=torch.get_num_threads(),
            model_name=name,
            weights_sha256=weights_sha256,
            size=size,
            parts=peer.parts,
            channels=0,  # nothing of it is one feature per part and frame
            embedding=peer.embedding,
        )

    def encode(self, silhouettes: Silhouettes, lengths: Ints | None = None) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w], of which `lengths` [n] frames count."""
        n, s = silhouettes.shape[:2]
        ends = [s] * n if lengths is None else lengths.tolist()
        frames = torch.tensor(silhouettes, device=self._device)
        with torch.inference_mode():
            if len(set(ends)) == 1:
                embeddings = self._peer(frames[:, : ends[0]])
            else:  # no peer masks padding: each sequence by itself
                walks = zip(frames, ends, strict=True)
                embeddings = torch.cat([self._peer(walk[None, :end]) for walk, end in walks])
        vectors = np.asarray(embeddings.cpu().numpy(), np.float32)  # [n, p, d]
        return Embedded(vectors, np.full(vectors.shape[:2], -1, np.int32))
