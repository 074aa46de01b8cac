"""README: its Python block runs, its verbs and links exist."""

import re
from pathlib import Path

import pytest
from command_line import call
from short_walk import write_short_walk

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8") if README.exists() else ""


def test_python_block_runs(tmp_path, monkeypatch, capsys):
    block = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert block
    assert len(block[1].strip().splitlines()) <= 12
    write_short_walk(tmp_path / "walk.mp4")
    monkeypatch.chdir(tmp_path)
    exec(compile(block[1], README.name, "exec"), {"__name__": "__main__"})
    assert "Ada" in capsys.readouterr().out


def test_every_verb_of_the_readme_exists():
    verbs = set(re.findall(r"cstl-edge ([a-z][a-z-]*)", TEXT))
    assert {"demo", "live", "enroll", "identify", "gallery", "export", "doctor"} <= verbs
    for verb in verbs:
        assert call(verb, "--help").returncode == 0, verb


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", TEXT))))
def test_links_exist(path):
    assert (README.parent / path).exists()
