import pytest
from standin_results import graph_rows, row, samples

from cstl_edge.bench.record import Case, write_rows
from cstl_edge.bench.report.load import against, chapters, machine, read, text
from cstl_edge.errors import ConfigError, DataError

CASE = Case(graph="full", batch=1, frames=30)


def timed(run="r1", utc="2026-11-25T03:00:00Z", ms=10.0, **machine):
    return row(
        case=CASE, run=run, samples={"wall": samples(ms, 20)}, environment={"utc": utc, **machine}
    )


def test_a_file_comes_back_whole(tmp_path):
    rows = list(graph_rows())
    write_rows(tmp_path / "a.jsonl", rows)
    assert read(tmp_path / "a.jsonl") == rows


@pytest.mark.parametrize("content", ["", "\n\n", '{"benchmark": "of another kind"}\n'])
def test_a_file_without_a_row_is_refused(tmp_path, content):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match="found none"):
        read(tmp_path / "a.jsonl")


def test_a_damaged_line_is_named(tmp_path):
    write_rows(tmp_path / "a.jsonl", [timed()])
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"version": 1, "scenario": "gra')
    with pytest.raises(DataError, match="line 2"):
        read(tmp_path / "a.jsonl")


def test_a_missing_file_and_one_that_is_no_bundle_are_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    for name in ("gone.jsonl", "a.zip"):
        with pytest.raises(DataError):
            read(tmp_path / name)


def test_a_negative_duration_is_refused(tmp_path):
    write_rows(tmp_path / "a.jsonl", [row(case=CASE, samples={"wall": [1.0, -2.0]})])
    with pytest.raises(DataError, match="0 ms or more"):
        read(tmp_path / "a.jsonl")


def test_machines_and_commits_are_chapters_by_time():
    rows = [
        timed(utc="2026-11-27T00:00:00Z", commit="ccc"),
        timed(utc="2026-11-25T00:00:00Z", commit="aaa"),
        timed(utc="2026-11-26T00:00:00Z", commit="aaa", cores=8),
    ]
    assert [(one.commit, "8 cores" in one.machine) for one in chapters(rows)] == [
        ("aaa", False),
        ("aaa", True),
        ("ccc", False),
    ]


def test_the_last_run_of_a_case_stands():
    first, other = timed("r1"), row(contender="openvino int8", case=CASE, samples={"wall": [1.0]})
    second = timed("r2", "2026-11-26T00:00:00Z")
    (chapter,) = chapters([second, first, other])
    assert list(chapter.rows) == [other, second]
    assert chapter.replaced == 1


def test_rows_of_one_run_with_one_key_all_stay():
    (chapter,) = chapters([timed(), timed()])
    assert len(chapter.rows) == 2


def test_two_chapters_are_compared_the_later_with_the_earlier():
    found = chapters([timed(commit="new", utc="2026-11-26T00:00:00Z"), timed(commit="old")])
    ((before, after),) = against(found, None)
    assert (before.commit, after.commit) == ("old", "new")


def test_three_chapters_are_not_guessed_at():
    found = chapters([timed(commit=name) for name in "abc"])
    assert against(found, None) == []


def test_a_commit_is_compared_with_the_others_by_machine():
    found = chapters(timed(commit=c, cores=n) for c in ("old1", "new1") for n in (2, 8))
    pairs = against(found, "old")
    assert all(before.machine == after.machine for before, after in pairs)
    assert [(before.commit, after.commit) for before, after in pairs] == [("old1", "new1")] * 2


def test_a_file_to_compare_with(tmp_path):
    write_rows(tmp_path / "base.jsonl", [timed(commit="base")])
    ((before, after),) = against(chapters([timed(commit="new")]), str(tmp_path / "base.jsonl"))
    assert (before.commit, after.commit) == ("base", "new")


@pytest.mark.parametrize("what", ["ffff", ""])
def test_an_unknown_commit_names_those_there_are(what):
    with pytest.raises(ConfigError, match="0123456789ab"):
        against(chapters([timed()]), what)


@pytest.mark.parametrize(
    "value", [{"a": [1, {"b": None}]}, ["x"] * 1000, "a\nb\x00", 1.5, True, None, float("nan")]
)
def test_whatever_a_strangers_file_has_is_one_line(value):
    assert text(value).isprintable()
    assert len(text(value)) <= 200
    assert machine({"cpu": value, "cores": value})


def test_the_machine_of_a_row_without_one():
    assert machine({}) == "unknown machine"
