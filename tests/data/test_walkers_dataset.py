"""Cache of Walkers: rendered once, named by everything that decides their bytes."""

import ast
import shutil

import pytest

from cstl_edge.data import walkers_dataset
from cstl_edge.data.shards import ShardedSequences
from cstl_edge.data.walkers_dataset import (
    PACKAGE,
    WalkersSettings,
    make_shards,
    source_files,
    sources_digest,
)

DECIDE_NO_BYTE = {"__init__.py", "arrays.py", "errors.py", "extras.py", "foreign.py", "opencv.py"}
"""Public names, types, messages, reading of others' files, import of cv2."""
FILES = [file.relative_to(PACKAGE) for file in source_files(PACKAGE)]
CLOTHED_FILES = [file.relative_to(PACKAGE) for file in source_files(PACKAGE, 2)]


def imported_files(file):
    """The files of the package that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cstl_edge"):
            for dotted in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                place = PACKAGE.parent / dotted.replace(".", "/")
                yield from filter(
                    lambda f: f.exists(), (place.with_suffix(".py"), place / "__init__.py")
                )


@pytest.mark.parametrize(
    ("first", "files"), [("generate.py", FILES), ("clothed/collection.py", CLOTHED_FILES)]
)
def test_every_module_that_walkers_import_is_in_the_fingerprint(first, files):
    reached, waiting = set(), [PACKAGE / "walkers" / first]
    while waiting:
        file = waiting.pop()
        if file not in reached:
            reached.add(file)
            waiting += imported_files(file)
    names = {str(file.relative_to(PACKAGE)) for file in reached} - DECIDE_NO_BYTE
    assert len(names) > 8
    assert names <= {str(file) for file in files}
    assert "data/walkers_dataset.py" not in names


@pytest.fixture
def package(tmp_path):
    """A copy of the files of the fingerprint."""
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACKAGE / file, tmp_path / file)
    return tmp_path


def change_one_letter_of_code(text):
    tree = ast.parse(text)
    in_strings = {name for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
                  for name in ast.walk(node)}  # fmt: skip
    names = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n not in in_strings]
    last = max(names, key=lambda name: (name.end_lineno, name.end_col_offset))
    lines = text.splitlines(keepends=True)
    line, column = lines[last.end_lineno - 1], last.end_col_offset - 1
    changed = line[:column] + ("y" if line[column] == "x" else "x") + line[column + 1 :]
    lines[last.end_lineno - 1] = changed
    return "".join(lines)


@pytest.mark.parametrize("file", [file for file in FILES if file.name != "__init__.py"], ids=str)
def test_one_byte_of_any_source_changes_the_fingerprint(package, file):
    before = sources_digest(package)
    assert before == sources_digest(PACKAGE)
    content = (package / file).read_bytes()
    if file.suffix == ".npz":
        changed = content[:-1] + bytes([content[-1] ^ 1])
    else:
        changed = change_one_letter_of_code(content.decode()).encode()
    assert sum(a != b for a, b in zip(content, changed, strict=True)) == 1
    (package / file).write_bytes(changed)
    assert sources_digest(package) != before


def test_comments_and_docstrings_do_not_change_the_fingerprint(package):
    before = sources_digest(package)
    for file in FILES:
        if file.suffix == ".py":
            text = (package / file).read_text().replace('."""', ', really."""')
            (package / file).write_text(f"# another comment\n{text}")
    assert sources_digest(package) == before


def test_settings_but_the_number_of_people_are_in_the_fingerprint():
    few, many = WalkersSettings(people=10), WalkersSettings(people=20, first=50)
    assert few.fingerprint() == many.fingerprint()
    assert few.fingerprint() != WalkersSettings(people=10, seed=1).fingerprint()


def test_walkers_are_rendered_once_and_more_people_only_add(tmp_path, monkeypatch):
    def settings(people):
        return WalkersSettings(people=people, nm=1, bg=0, cl=0, views_deg=(90,), frames=4)

    monkeypatch.setattr(walkers_dataset, "PEOPLE_PER_SHARD", 2)
    first = make_shards(settings(4), tmp_path, workers=1)
    times = [path.stat().st_mtime_ns for path in first]
    more = make_shards(settings(5), tmp_path, workers=0)
    assert more[:2] == first
    assert [path.stat().st_mtime_ns for path in first] == times
    data = ShardedSequences(more)
    assert data.people.tolist() == [1000, 1001, 1002, 1003, 1004]
    assert data.read(0).shape == (4, 64, 44)
    assert data.read(0).max() == 255


def test_the_first_generator_keeps_its_fingerprint_whatever_the_second_one_does(package):
    for file in CLOTHED_FILES:
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACKAGE / file, package / file)
    first, second = sources_digest(package, 1), sources_digest(package, 2)
    changed = package / "walkers" / "clothed" / "walk.py"
    changed.write_text(changed.read_text() + "\nMORE = 1\n")
    assert sources_digest(package, 1) == first
    assert sources_digest(package, 2) != second


def test_settings_of_the_second_generator_leave_the_first_ones_names(monkeypatch):
    plain = WalkersSettings(people=2)
    dumped = plain.model_dump(exclude={"generator", "views", "filmed"})
    assert WalkersSettings(**dumped).fingerprint() == plain.fingerprint()
    second = WalkersSettings.clothed(people=2, views=4)
    assert second.fingerprint() != WalkersSettings.clothed(people=2, views=6).fingerprint()
    assert len(second.views_deg) == 24
    for wrong in ({"views": 3}, {"filmed": 0.1}):
        with pytest.raises(ValueError, match="generator 2"):
            WalkersSettings(people=2, **wrong)


def test_clothed_walkers_become_shards(tmp_path):
    settings = WalkersSettings.clothed(people=2, nm=1, bg=0, cl=1, views=2, frames=4)
    shards = make_shards(settings, tmp_path, workers=1)
    data = ShardedSequences(shards)
    assert sorted(set(data.sequences)) == ["cl-01", "nm-01"]
    assert data.lengths.tolist() == [4] * 8
    assert ((data.views_deg[::2] + 180) % 360 == data.views_deg[1::2]).all()
