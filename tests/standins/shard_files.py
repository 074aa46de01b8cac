"""Shards written at once, from silhouettes and labels in memory."""

from cstl_edge.data.shards import ShardWriter


def write_shard(stem, silhouettes, *, people, sequences, views_deg, lengths=None):
    """Write one shard of uint8 [m, s, h, w], shorter sequences padded; return its .json's path."""
    m, s, h, w = silhouettes.shape
    lengths = [s] * m if lengths is None else lengths
    labels = zip(silhouettes, people, sequences, views_deg, lengths, strict=True)
    with ShardWriter(stem, (h, w)) as shard:
        for frames, person, sequence, view, length in labels:
            shard.add(frames[:length], person=person, sequence=sequence, view_deg=view)
    return shard.path
