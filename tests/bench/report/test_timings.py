"""Sections of times: a search of a gallery, by its size."""

from __future__ import annotations

from standin_results import MACHINE, SUBJECT

from cstl_edge.bench.record import Row


def test_growth_of_a_gallery_is_shown_by_size(chapter_of):
    def row(size, wall_ms):
        values = {
            "templates": float(size),
            "us_per_1000_templates": wall_ms * 1e6 / size,
            "recall": 1.0,
        }
        name = f"two stages, {size:,} templates"
        return Row(
            run="r1", scenario="gallery", contender=name, subject=SUBJECT, environment=MACHINE,
            samples={"wall": [wall_ms] * 9}, values=values,
        )  # fmt: skip

    rows = [row(1_000_000, 12.0), row(1_000, 0.5), row(100_000, 7.0)]
    (section,) = (one for one in chapter_of(rows).sections if one.title == "Galleries that grow")
    table = section.tables[0]
    names = [str(cells[0]) for cells in table.rows]
    assert [name.split(", ")[1].split()[0] for name in names] == ["1,000", "100,000", "1,000,000"]
    assert [str(cells[1]) for cells in table.rows] == ["0.500", "7.00", "12.0"]
    assert len(section.pictures) == 1
