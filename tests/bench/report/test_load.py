"""Result files: reading, refusals, grouping by machine, network and commit."""

import pytest
from standin_results import MACHINE, SUBJECT, graph_rows, row, samples

from cstl_edge.bench.record import Case, write_rows
from cstl_edge.bench.report.load import (
    by_commit,
    by_machine,
    comparison_pairs,
    machine_name,
    one_line_text,
    read_file,
    read_files,
)
from cstl_edge.errors import ConfigError, DataError

CASE = Case(graph="full", batch=1, frames=30)


def timed(run="r1", utc="2026-11-25T03:00:00Z", ms=10.0, **machine):
    about = {"run": run, "environment": {"utc": utc, **machine}}
    return row(case=CASE, samples={"wall": samples(ms, 20)}, **about)


def test_a_file_comes_back_whole(tmp_path):
    rows = list(graph_rows())
    write_rows(tmp_path / "a.jsonl", rows)
    assert read_file(tmp_path / "a.jsonl") == rows


@pytest.mark.parametrize("content", ["", "\n\n", '{"benchmark": "of another kind"}\n'])
def test_a_file_without_a_row_is_refused(tmp_path, content):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match="found none"):
        read_files([tmp_path / "a.jsonl"])


def test_beside_results_a_file_without_any_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"benchmark": "of another kind"}\n')
    write_rows(tmp_path / "b.jsonl", [timed()])
    lines = []
    rows = read_files([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], lines.append)
    assert len(rows) == 1
    assert lines == [f"{tmp_path / 'a.jsonl'}: no results of cstl-edge bench, left out"]


def test_a_damaged_line_is_named(tmp_path):
    write_rows(tmp_path / "a.jsonl", [timed()])
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"version": 1, "scenario": "gra')
    with pytest.raises(DataError, match="line 2"):
        read_file(tmp_path / "a.jsonl")


def test_a_missing_file_and_one_that_is_no_bundle_are_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    for name in ("gone.jsonl", "a.zip"):
        with pytest.raises(DataError):
            read_file(tmp_path / name)


@pytest.mark.parametrize(
    ("figures", "name"),
    [
        *(({"samples": {"wall": [1.0, x]}}, "wall") for x in (-2.0, 5e-324, 1e300)),
        ({"values": {"rank1": 0.5}, "intervals": {"rank1": (0, 1e300)}}, "rank1"),
    ],
)
def test_a_figure_beyond_all_that_is_measured_is_refused(tmp_path, figures, name):
    write_rows(tmp_path / "a.jsonl", [row(case=CASE, **figures)])
    with pytest.raises(DataError, match=f"as {name}"):
        read_file(tmp_path / "a.jsonl")


def test_machines_are_chapters_by_time_machines_and_commits_are_sides():
    rows = [
        timed("r3", "2026-11-27T00:00:00Z", commit="ccc"),
        timed("r1", "2026-11-25T00:00:00Z", commit="aaa"),
        timed("r2", "2026-11-26T00:00:00Z", commit="aaa", cores=8),
    ]
    groups = [(one.commits, "8 cores" in one.machine) for one in by_machine(rows)]
    assert groups == [(["aaa"], True), (["ccc"], False)]
    groups = [(one.commits, "8 cores" in one.machine) for one in by_commit(rows)]
    assert groups == [(["aaa"], False), (["aaa"], True), (["ccc"], False)]


def test_of_a_scenario_the_last_run_stands_whole():
    first = [timed("r1"), row(contender="openvino int8", case=CASE, samples={"wall": [1.0]})]
    single = row(scenario="single", case=CASE, samples={"wall": [1.0]})
    second = timed("r2", "2026-11-26T00:00:00Z")
    (chapter,) = by_machine([second, *first, single])
    assert list(chapter.rows) == [single, second]
    assert chapter.replaced == 2
    (side,) = by_commit([second, *first, single])
    assert len(side.rows) == 4


def test_networks_are_chapters_of_their_own_with_the_machines_peaks():
    other = SUBJECT.model_copy(update={"name": "random weights", "widths": (32, 64, 128, 128)})
    ours, theirs = (
        row(case=CASE, run=name, samples={"wall": [1.0]}, subject=subject, environment=MACHINE)
        for name, subject in (("r1", SUBJECT), ("r2", other))
    )
    peak = row(scenario="roofline", subject=None, values={"gmacs_per_s": 1.0}, environment=MACHINE)
    peers = row(scenario="peers", values={"rank1": 0.5}, environment=MACHINE)
    by_name = {one.machine: one for one in by_machine([ours, theirs, peak, peers])}
    (first, second) = sorted(by_name, key=lambda name: "random" in name)
    assert first.endswith(": shipped, 64×44, widths 16/32/64/64")
    assert second.endswith(": random weights, 64×44, widths 32/64/128/128")
    assert [one in by_name[first].rows for one in (ours, theirs, peak, peers)] == [1, 0, 1, 1]
    assert [one in by_name[second].rows for one in (ours, theirs, peak, peers)] == [0, 1, 1, 0]


def test_peers_are_put_together_from_several_runs():
    rows = [row(scenario="peers", run=name, values={"rank1": 0.5}) for name in ("train", "cost")]
    assert len(by_machine(rows)[0].rows) == 2


def test_rows_without_a_machine_join_the_only_machine():
    trtexec = row("trtexec", run="t", samples={"latency": [1.0]}).model_copy(
        update={"environment": {}}
    )
    (chapter,) = by_machine([trtexec, timed()])
    assert trtexec in chapter.rows
    assert chapter.commits == ["0123456789ab"]
    assert [one.machine for one in by_machine([trtexec])] == ["unknown machine"]
    assert len(by_machine([trtexec, timed(), timed(cores=8)])) == 3


def test_two_sides_are_compared_the_later_with_the_earlier():
    rows = [timed(commit="new", utc="2026-11-26T00:00:00Z"), timed("r2", commit="old")]
    ((before, after),) = comparison_pairs(rows, None)
    assert (before.commits, after.commits) == (["old"], ["new"])


def test_three_sides_are_not_compared_without_a_base():
    assert comparison_pairs([timed(commit=name) for name in "abc"], None) == []


def test_a_commit_is_compared_with_the_others_by_machine():
    rows = [timed(commit=c, cores=n) for c in ("old1", "new1") for n in (2, 8)]
    pairs = comparison_pairs(rows, "old")
    assert all(before.machine == after.machine for before, after in pairs)
    assert [(b.commits, a.commits) for b, a in pairs] == [(["old1"], ["new1"])] * 2


def test_a_file_of_results_is_a_base(tmp_path):
    write_rows(tmp_path / "base.jsonl", [timed(commit="base")])
    ((before, after),) = comparison_pairs([timed(commit="new")], str(tmp_path / "base.jsonl"))
    assert (before.commits, after.commits) == (["base"], ["new"])


@pytest.mark.parametrize("what", ["ffff", ""])
def test_an_unknown_commit_names_those_there_are(what):
    with pytest.raises(ConfigError, match="0123456789ab"):
        comparison_pairs([timed()], what)


@pytest.mark.parametrize(
    "value", [{"a": [1, {"b": None}]}, ["x"] * 1000, "a\nb\x00", 1.5, True, None, float("nan")]
)
def test_any_value_of_a_file_is_one_line(value):
    assert one_line_text(value).isprintable()
    assert len(one_line_text(value)) <= 200
    assert machine_name({"cpu": value, "cores": value})


def test_a_row_without_an_environment_has_an_unknown_machine():
    assert machine_name({}) == "unknown machine"


def test_machines_alike_in_two_files_are_shown_apart(tmp_path):
    for name, ms in (("left", 10.0), ("right", 20.0)):
        write_rows(tmp_path / f"{name}.jsonl", [timed(run=name, ms=ms, cpu="EPYC", commit="abc")])
    files = [tmp_path / "left.jsonl", tmp_path / "right.jsonl"]
    machines = by_machine(read_files(files))
    names = [machine.machine for machine in machines]
    assert [name.rpartition(", ")[2] for name in names] == ["left", "right"]
    assert [machine.replaced for machine in machines] == [0, 0]
    assert len(comparison_pairs(read_files(files), None)) == 1


@pytest.mark.parametrize("other", [{"commit": "def"}, {"commit": "abc", "machine": "1a2b"}])
def test_two_runs_of_one_machine_stay_one_machine(tmp_path, other):
    first = {"commit": "abc"} | {key: other[key] for key in other if key == "machine"}
    write_rows(tmp_path / "a.jsonl", [timed(run="a", cpu="EPYC", **first)])
    write_rows(tmp_path / "b.jsonl", [timed(run="b", cpu="EPYC", **other)])
    assert len(by_machine(read_files([tmp_path / "a.jsonl", tmp_path / "b.jsonl"]))) == 1
