"""README: short, true in what can be counted, its Python block runs, its links exist."""

import re
from pathlib import Path

import pytest
from command_line import call

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
PICTURE = ROOT / "docs" / "images" / "demo.webp"


def test_it_is_short():
    lines = TEXT.splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120


def test_the_picture_is_small_and_moves():
    from PIL import Image

    assert "](docs/images/demo.webp)" in TEXT
    assert PICTURE.stat().st_size < 1_500_000
    assert Image.open(PICTURE).n_frames > 20


@pytest.mark.parametrize("page", ["README.md", "docs/results.md", "docs/start.md"])
def test_accuracy_across_views_never_stands_without_synthetic(page):
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        assert "81 %" not in line or "synthetic" in line.lower()


def test_python_block_is_of_ten_lines():
    """It runs with the blocks of the other pages."""
    block = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert block
    assert len(block[1].strip().splitlines()) <= 12


def test_every_verb_of_the_readme_exists():
    verbs = set(re.findall(r"cstl-edge ([a-z][a-z-]*)", TEXT))
    assert {"demo", "live", "enroll", "identify", "gallery", "doctor"} <= verbs
    for verb in verbs:
        assert call(verb, "--help").returncode == 0, verb


def test_links_exist():
    for target in re.findall(r"\]\(((?!http)[^)#]+)(?:#[^)]*)?\)", TEXT):
        assert (ROOT / target).exists(), target


def test_the_version_to_cite_is_this_one():
    from cstl_edge import __version__

    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
