"""Small form of benchmarks/robustness/gallery_kills.py: every kind of change, killed."""

from pathlib import Path

import robustness

from cstl_edge.gallery import keys


def test_killed_at_any_moment_a_gallery_is_whole(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(next(iter(robustness.__path__)))))
    monkeypatch.setattr(keys, "SCRYPT", dict(keys.SCRYPT))
    import gallery_kills

    monkeypatch.setattr(gallery_kills, "LONGEST_S", 0.1)
    counts = gallery_kills.run(20, seed=2, out=None)
    assert counts["whole"] == 20
    assert "fault" not in counts
