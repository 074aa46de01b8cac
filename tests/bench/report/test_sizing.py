"""How many people and cameras, and what to buy: counted by hand from rows of one machine."""

from __future__ import annotations

from standin_results import MACHINE, SUBJECT

from cstl_edge.bench.record import Case, Ran, Row
from cstl_edge.bench.report.sections.sizing import Costs

STREAM = Case(graph="streaming", frames=30, hop=5, walkers=1)


def ran(threads: int) -> Ran:
    return Ran(
        backend="onnxruntime", provider="cpu", precision="float32",
        computed_in="float32", version="1", threads=threads,
    )  # fmt: skip


def row(scenario: str, contender: str, **more) -> Row:
    given = {"subject": SUBJECT, "environment": MACHINE} | more
    return Row(run="r1", scenario=scenario, contender=contender, **given)


def rows():
    crop = {"ran": ran(1), "values": {"gmacs": 0.5, "gbytes": 0.01}, "details": {"crops": 1}}
    peak = {"kind": "arithmetic", "device": "cpu", "precision": "float32", "kernel": "k"}
    level = {"kind": "bandwidth", "device": "cpu", "level": "memory", "kernel": "k"}
    return [
        row("segment", "background", samples={"wall": [4.0] * 9}),
        row("segment", "person network, 1 crop", samples={"wall": [10.0] * 9}, **crop),
        row("single", "onnxruntime int8", case=STREAM, ran=ran(1), samples={"wall": [1.0] * 9}),
        row("roofline", "peak", ran=ran(2), values={"gmacs_per_s": 200.0}, details=peak),
        row("roofline", "copy", ran=ran(2), values={"gbytes_per_s": 10.0}, details=level),
    ]


def test_load_of_a_house_counts_frames_masks_and_embeddings():
    costs = Costs(frame_ms=4, crop_ms=10, embedding_ms=1, cores=2)
    assert costs.budget_ms == 1400
    assert costs.load_ms(2, 3) == 2 * (25 * 4 + 3 * 12.5 * 11)
    assert costs.load_ms(1, 4, network=False) == 25 * 4 + 4 * 12.5 * 1


def test_the_page_says_first_how_many_people_and_cameras_and_what_to_buy(chapter_of):
    chapter = chapter_of(rows())
    people, cameras = chapter.headlines[:2]
    # 1400 ms a second: one camera 100 + n · 137.5; cameras of one n · 237.5; without 112.5
    assert (people.figure, cameras.figure) == ("9", "5")
    assert "without the person network 104" in people.where
    assert "without the person network 12" in cameras.where
    section = chapter.sections[0]
    assert section.title == "How many cameras, how many people, what to buy"
    last = [str(cell) for cell in section.tables[0].rows[-1]]
    assert last[:2] == ["16", "4"]
    assert last[3] == "8 (2)"  # 10.4 and 2.4 kms a second of 1.4


def test_share_of_the_network_is_of_the_peak_of_as_many_threads(chapter_of):
    (section,) = (one for one in chapter_of(rows()).sections if one.title == "Segmentation")
    (line,) = section.tables[1].rows
    assert str(line[-1]) == "50%"  # 50 of 100 on one of two threads


def test_without_one_of_the_costs_nothing_is_said(chapter_of):
    chapter = chapter_of(rows()[1:])
    assert all("camera" not in headline.what for headline in chapter.headlines)
    assert chapter.sections[0].title != "How many cameras, how many people, what to buy"
