"""Files that the kernel writes, read without ever failing: what is not there is absent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LONGEST = 1 << 20


@dataclass(frozen=True)
class Tree:
    """The file system below `root`; tests give one of their own making.

    Which files match a pattern is looked up once, so that asking between the samples of a
    measurement stays cheap.
    """

    root: Path = Path("/")
    _found: dict[str, list[Path]] = field(default_factory=dict, compare=False, repr=False)

    def text(self, path: str | Path) -> str | None:
        """Return what a file says, without white space and zeros at its ends; None without it."""
        try:
            with (self.root / path).open("rb") as file:
                return file.read(LONGEST).decode("utf-8", "replace").strip("\0 \t\r\n")
        except OSError:  # missing, forbidden, or a sensor that is switched off
            return None

    def number(self, path: str | Path) -> int | None:
        """Return the whole number in a file; None without one."""
        found = self.text(path)
        return int(found) if found is not None and re.fullmatch(r"[+-]?\d{1,18}", found) else None

    def match(self, pattern: str) -> list[Path]:
        """Return the paths that match, cpu2 before cpu10."""
        if pattern not in self._found:
            try:
                found = list(self.root.glob(pattern))
            except OSError:
                found = []
            self._found[pattern] = sorted(found, key=_by_number)
        return self._found[pattern]

    def numbers(self, pattern: str) -> Iterator[tuple[Path, int]]:
        """Yield every file that matches and holds a whole number, with it."""
        for path in self.match(pattern):
            value = self.number(path)
            if value is not None:
                yield path, value


def _by_number(path: Path) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", str(path))
    return [(int(piece), "") if piece.isdigit() else (0, piece) for piece in pieces]
