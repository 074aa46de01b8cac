"""What the command line does to the gallery while the service runs or is down is followed."""

import pytest
from recogniser_scene import House, Walk

from cstl_edge.gallery.administration import PersonIdentity
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.serve.gallery_news import GalleryNews, news


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    for name, person in (("Adalovelace", 1), ("Bo", 2)):
        house.enrol(name, person)
        house.play(Walk(person))
    yield house
    house.close()


def people(**walks):
    return {
        int(number[1:]): PersonIdentity(name, frozenset(kept))
        for number, (name, kept) in walks.items()
    }


def persons(house):
    return [visit.person for visit in house.visits()]


def test_a_rename_a_merge_and_an_erasure_are_told_apart():
    before = people(p1=("Ada", {"1 a"}), p2=("Bo", {"2 b"}), p3=("Cy", {"3 c"}), p4=("Di", {"4 d"}))
    now = people(p1=("Adele", {"1 a", "3 c"}), p2=("Bo", {"2 b"}), p5=("Ed", {"4 e"}))
    seen = news(before, now, ["Bo", "Zoe"], erased=True)
    assert seen.renamed == (("Ada", "Adele"),)
    assert seen.merged == (("Adele", "Cy", (3,)),)
    assert seen.erased == ("Di", "Zoe")  # another walk has the number of Di's
    assert news(before, now, ["Zoe"], erased=False).erased == ()  # a restored backup


def test_two_who_swap_names_are_never_one():
    assert GalleryNews(renamed=(("A", "B"),)).steps == [("A", "B")]
    names = {"1": "A", "2": "B"}
    for former, name in GalleryNews(renamed=(("A", "B"), ("B", "A"))).steps:
        held = [key for key, x in names.items() if x == former]
        assert len(held) == 1
        names[held[0]] = name
    assert names == {"1": "B", "2": "A"}


def test_a_name_that_the_command_line_gives_reaches_everything(house):
    before = persons(house)
    with Gallery.open(house.site.gallery_path) as other:
        other.rename("Adalovelace", "Adele")
    house.do("gallery.reload")
    assert persons(house) == ["Adele" if name == "Adalovelace" else name for name in before]
    assert {row.event["person"] for row in house.reader.events(limit=500)} >= {"Adele", "Bo"}
    assert b'"Adalovelace"' not in house.bytes()
    house.close()
    with Gallery.open(house.site.gallery_path) as other:  # while the service is down
        other.rename("Adele", "Carl")
        other.rename("Bo", "Adele")
    house.open()
    names = {"Adalovelace": "Carl", "Bo": "Adele", None: None}
    assert persons(house) == [names[name] for name in before]


def test_whoever_is_renamed_is_not_taken_for_erased(house):
    before = persons(house)
    with Gallery.open(house.site.gallery_path) as other:
        other.rename("Adalovelace", "Adele")
        other.remove("Bo")
    house.do("gallery.reload")
    assert persons(house) == ["Adele" for name in before if name == "Adalovelace"]


def test_a_merge_by_the_command_line_can_be_undone_here(house):
    before = persons(house)
    with Gallery.open(house.site.gallery_path) as other:
        other.merge("Adalovelace", "Bo")
    house.do("gallery.reload")
    assert set(persons(house)) - {None} == {"Adalovelace"}
    (person,) = house.reader.people()
    house.do("people.unmerge", merge=person.merged)
    assert persons(house) == before
    assert [x.name for x in house.reader.people()] == ["Adalovelace", "Bo"]
    house.do("people.erase", person="Bo")
    assert "Bo" not in persons(house)
