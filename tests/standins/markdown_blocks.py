"""Code blocks of the project's Markdown pages, with the reasons why some are not run."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run|ci): (?P<reason>.*?) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str
    reason: str  # why it is not run; empty for one that is

    @property
    def commands(self):
        """Lines of the command line's verbs in it."""
        return [line for line in self.lines if line.startswith("cstl-edge ")]

    @property
    def lines(self):
        """Lines of a shell, those that go on behind a backslash joined."""
        return self.text.replace("\\\n", " ").splitlines()


def blocks_of(page):
    """Return the blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            str(page.relative_to(ROOT)),
            text[: match.start("text")].count("\n") + 1,
            match["language"],
            match["text"],
            match["reason"] or "",
        )
        for match in BLOCK.finditer(text)
    ]
