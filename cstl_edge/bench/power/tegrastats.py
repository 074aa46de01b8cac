"""Readings of NVIDIA's `tegrastats`, to cross-check ours.

A line of `tegrastats` differs between boards and releases; what is not there is left out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Sequence

from cstl_edge.errors import DataError, one_line

INTERVAL_MS = 100  # the tool averages over no less
KEPT_LINES = 20  # of an excerpt

_RAM = re.compile(r"\bRAM \d+/\d+MB")
_CPU = re.compile(r"\bCPU \[[^\]]*\]")
_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]+) (-?\d+)(?:mW)?/(-?\d+)(?:mW)?(?=\s|$)")


def parse_rails(line: str) -> dict[str, tuple[int, int]]:
    """Return each rail's power [mW] now and on average since the tool began.

    Raises DataError for a line that is none of the tool's.

    >>> parse_rails("RAM 1024/7620MB (lfb 2x4MB) CPU [3%@729,off] VDD_IN 4521mW/4480mW")
    {'VDD_IN': (4521, 4480)}
    """
    cores = _CPU.search(line)
    if cores is None or not _RAM.search(line):
        raise DataError(f"expected a line of tegrastats; got {one_line(line, 80)!r}")
    return {
        name: (int(now), int(mean))
        for name, now, mean in _RAIL.findall(line[cores.end() :])
        if name != "NC"  # channels that are not connected
    }


class Tegrastats:
    """The tool, running while the block does; then `lines` has what it printed."""

    def __init__(self, command: Sequence[str] | None = None) -> None:
        self._command = list(command or ("tegrastats", "--interval", str(INTERVAL_MS)))
        self.lines: list[str] = []

    @staticmethod
    def is_installed() -> bool:
        """Tell whether this machine has it."""
        return shutil.which("tegrastats") is not None

    def __enter__(self) -> Tegrastats:
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        self._thread = threading.Thread(target=self._read, name="tegrastats", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._child.terminate()
        try:
            self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._thread.join()
        if self._child.stdout is not None:
            self._child.stdout.close()

    def watts(self) -> dict[str, float]:
        """Return each rail's mean power [W] over the lines, from their momentary values."""
        sums: dict[str, list[int]] = {}
        for line in self.lines:
            try:
                rails_mw = parse_rails(line)
            except DataError:
                continue  # its first words, or a line cut at the end
            for name, (now, _) in rails_mw.items():
                sums.setdefault(name, []).append(now)
        return {name: sum(values) / len(values) / 1e3 for name, values in sums.items()}

    def _read(self) -> None:
        for line in self._child.stdout or ():
            self.lines.append(line.rstrip("\n"))


def excerpt(seconds: float = 2.0) -> list[str]:
    """Return some lines of the tool on this machine; none where it is not."""
    if not Tegrastats.is_installed():
        return []
    with Tegrastats() as tool:
        threading.Event().wait(seconds)
    return tool.lines[:KEPT_LINES]
