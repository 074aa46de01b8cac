"""Every code block of the pages runs, or says why not; every command in them is one."""

import contextlib
import io
import itertools
import shlex
import shutil

import pytest
from command_line import call
from drawn_people import draw, save
from markdown_blocks import PAGES, ROOT, blocks_of
from reference_cli import option_names, verbs
from short_walk import write_short_walk

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
VERBS = dict(verbs())
BENCH = ROOT / "benchmarks" / "results" / "epyc-vnni-2core" / "bench_paper.jsonl"


def pages_with_runs():
    runs = [b.page for b in BLOCKS if b.language in ("sh", "python") and not b.reason]
    return list(dict.fromkeys(runs))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """What the pages take for given: walks, silhouettes, rows of benchmarks, events."""
    shop = tmp_path_factory.mktemp("docs")
    shutil.copy(write_short_walk(shop / "walk.mp4"), shop / "visitor.mp4")
    for person in ("ada", "ben"):
        for step in range(4):
            save(draw(step), shop / "silhouettes" / person / "walk-1" / f"{step:04d}.png")
    with BENCH.open(encoding="utf-8") as rows:
        few = list(itertools.islice(rows, 40))
    for name in ("rows", "before", "after"):
        (shop / f"{name}.jsonl").write_text("".join(few), encoding="utf-8")
    done = call("live", "walk.mp4", "--events", "events.jsonl", cwd=shop)
    assert done.returncode == 0, done.stderr
    return shop


@pytest.fixture
def sandbox(shop, tmp_path, monkeypatch):
    """A copy of it as the working folder, and an empty data folder."""
    shutil.copytree(shop, tmp_path / "work")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path / "work")


def run_shell(block):
    for line in block.lines:
        program, *words = shlex.split(line, comments=True) or ["#"]
        if program == "#":
            continue
        assert program == "cstl-edge", f"{line!r} cannot run in a test: mark the block"
        done = call(*words)
        assert done.returncode == 0, f"{line}: {done.stderr}"


def run_python(block):
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(block.text, block.page, "exec"), {"__name__": "docs"})


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("page", pages_with_runs())
@pytest.mark.slow
def test_blocks_of_a_page_run_in_order(page, monkeypatch):
    if page == "docs/benchmarks.md":
        pytest.importorskip("jinja2", reason="the extra `bench` makes the report")
        pytest.importorskip("scipy")
    if page == "docs/extending.md":
        from cstl_edge.bench.scenarios.open import SCENARIOS

        monkeypatch.setattr(SCENARIOS, "entries", dict(SCENARIOS.entries))
    for block in BLOCKS:
        if block.page == page and not block.reason and block.language in ("sh", "python"):
            (run_shell if block.language == "sh" else run_python)(block)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_a_block_has_a_language_and_a_reason_not_to_run(block):
    if block.language in ("sh", "python") and block.reason:
        assert len(block.reason) > 10
    if not block.language:  # a picture of text
        assert not block.commands or block.reason in ("demo", "tests")


def commands():
    for block in BLOCKS:
        for line in block.commands:
            yield pytest.param(line, id=f"{block.page}:{block.line}:{line[:40]}")


@pytest.mark.parametrize("line", [*commands()])
def test_every_command_of_the_pages_exists_with_its_options(line):
    words = shlex.split(line, comments=True)[1:]
    path = " ".join(words[:2]) if " ".join(words[:2]) in VERBS else words[0]
    assert path in VERBS, f"{line!r}: there is no verb {path}"
    known = {name for param in VERBS[path].params for name in option_names(param)} | {"--help"}
    for word in words:
        if word.startswith("-") and not word.lstrip("-").isdecimal():
            assert word.split("=")[0] in known, f"{line!r}: {path} has no option {word}"
