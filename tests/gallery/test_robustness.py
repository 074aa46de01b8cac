"""Small forms of benchmarks/robustness: flipped bits and kills."""

from robustness import gallery_flips

from cstl_edge.gallery.gallery import Gallery


def test_no_flipped_bit_gives_another_name_or_record():
    counts = gallery_flips.run(40, seed=1, out=None)
    assert set(counts) == {"same", "refused"}
    assert counts["refused"] > 8


def test_every_bit_that_decides_is_covered(path, monkeypatch):
    """Flip one bit in each hundredth byte of the rows about people, not of free space."""
    gallery_flips.make(path, encrypt=False)
    base, expected = path.read_bytes(), gallery_flips.answers(path)
    first = base.index(b'{"name": "Person')
    positions = range(first, first + 1500, 97)
    outcomes = {
        gallery_flips.flip(base, path.with_name("f.db"), expected, position, 2)[0]
        for position in positions
    }
    assert outcomes <= {"same", "refused"}
    assert "refused" in outcomes
    with Gallery.open(path) as gallery:
        assert gallery.verify() == []
