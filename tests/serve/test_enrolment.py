"""Enrolment by walking past: whose walks count, from which sides, and when it ends."""

from dataclasses import replace

import pytest
from recogniser_scene import House, Walk


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    house.do("enrol.start", person="Ada", note="agreed", camera="door")
    yield house
    house.close()


def test_who_turns_back_in_the_picture_is_seen_from_two_sides(house):
    house.play(Walk(1, seconds=4), until_s=3.9)
    status = house.do("enrol.status")
    assert (status["state"], list(status["views"])) == ("walking", ["right"])
    house.skip(70)  # its camera is gone
    house.play(Walk(1, seconds=12, turns_s=6))
    status = house.do("enrol.status")
    assert status["state"] == "done"
    assert min(status["views"]["left"], status["views"]["right"]) >= 2
    (ada,) = house.reader.people()
    assert dict(ada.views).keys() == {"left", "right"}


def test_there_and_back_is_enough_at_ten_frames_a_second(house):
    house.play(Walk(1, seconds=6), Walk(1, start_s=8, seconds=6, x=400, speed=-60))
    status = house.do("enrol.status")
    assert (status["state"], status["windows"]) == ("done", 6)
    assert status["views"] == {"left": 2, "right": 4}


def test_a_stranger_who_passes_in_between_does_not_count(house):
    house.play(Walk(1, seconds=6), Walk(2, start_s=20, seconds=5))
    status = house.do("enrol.status")
    assert (status["state"], status["windows"]) == ("walking", 4)
    house.play(Walk(1, seconds=6, x=400, speed=-60))
    status = house.do("enrol.status")
    assert (status["state"], status["windows"]) == ("done", 6)
    assert status["warnings"] == ["left out: 1 that walk like somebody else"]
    assert [visit.person for visit in house.visits()] == ["Ada", None, "Ada"]


def test_what_came_before_somebody_else_did_stays(house):
    house.play(Walk(1, seconds=12, speed=30), Walk(2, start_s=7, seconds=4, x=500))
    status = house.do("enrol.status")
    assert (status["state"], status["views"]) == ("walking", {"right": 5})


def test_what_matches_already_is_not_added_again(house):
    there, back = Walk(1, seconds=6), Walk(1, start_s=8, seconds=6, x=400, speed=-60)
    house.play(there, back)
    house.do("enrol.start", person="Ada", note="agreed", camera="door", add=True)
    house.play(there, back)
    status = house.do("enrol.status")
    assert status["state"] == "failed"
    assert "match Ada already" in status["message"]
    house.do("enrol.start", person="Ada", note="agreed", camera="yard", add=True, force=True)
    house.play(*(replace(walk, camera="yard") for walk in (there, back)))
    assert house.do("enrol.status")["state"] == "done"
    assert house.reader.people()[0].walks == 4


def test_an_enrolment_goes_on_while_windows_come(house):
    for _ in range(3):
        house.play(Walk(1, seconds=3))
        house.skip(120)
    assert house.do("enrol.status")["state"] == "walking"
    house.skip(181)
    status = house.do("enrol.status")
    assert status["state"] == "done"
    assert "add walks" in status["warnings"][-1]
