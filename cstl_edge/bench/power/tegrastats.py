"""Readings of NVIDIA's `tegrastats`, to cross-check ours.

A line of `tegrastats` differs between boards and releases; what is not there is left out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from cstl_edge.errors import DataError, one_line

INTERVAL_MS = 100
"""The tool averages over no less."""
KEPT_LINES = 20  # of an excerpt

_RAM = re.compile(r"\bRAM (\d+)/(\d+)MB")
_CPU = re.compile(r"\bCPU \[([^\]]*)\]")
_CORE = re.compile(r"(\d+)%@(\d+)|off")
_GPU = re.compile(r"\bGR3D_FREQ (\d+)%")
_TEMPERATURE = re.compile(r"\b([A-Za-z][\w.]*)@(-?\d+(?:\.\d+)?)C\b")
_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]+) (-?\d+)(?:mW)?/(-?\d+)(?:mW)?(?=\s|$)")


@dataclass(frozen=True)
class TegrastatsLine:
    """One parsed line."""

    ram_mb: tuple[int, int]
    """Used and total."""
    cores: tuple[tuple[int, int] | None, ...]
    """Load [%] and clock [MHz] of every core; None of one that is off."""
    gpu_percent: int | None
    temperatures_c: dict[str, float] = field(default_factory=dict)
    rails_mw: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Now, and the mean since the tool began."""


def parse(line: str) -> TegrastatsLine:
    """Parse a line (DataError where it is none of the tool's).

    >>> parse("RAM 1024/7620MB (lfb 2x4MB) CPU [3%@729,off] VDD_IN 4521mW/4480mW").rails_mw
    {'VDD_IN': (4521, 4480)}
    """
    ram, cores = _RAM.search(line), _CPU.search(line)
    if ram is None or cores is None:
        raise DataError(f"expected a line of tegrastats; got {one_line(line, 80)!r}")
    gpu = _GPU.search(line)
    behind = line[cores.end() :]
    return TegrastatsLine(
        ram_mb=(int(ram[1]), int(ram[2])),
        cores=tuple(
            None if core[0] == "off" else (int(core[1]), int(core[2]))
            for core in _CORE.finditer(cores[1])
        ),
        gpu_percent=int(gpu[1]) if gpu else None,
        temperatures_c={name: float(value) for name, value in _TEMPERATURE.findall(behind)},
        rails_mw={
            name: (int(now), int(mean))
            for name, now, mean in _RAIL.findall(behind)
            if name != "NC"  # channels that are not connected
        },
    )


class Tegrastats:
    """The tool, running while the block does; then `lines` has what it printed."""

    def __init__(self, command: Sequence[str] | None = None) -> None:
        self._command = list(command or ("tegrastats", "--interval", str(INTERVAL_MS)))
        self.lines: list[str] = []

    @staticmethod
    def here() -> bool:
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
                rails_mw = parse(line).rails_mw
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
    if not Tegrastats.here():
        return []
    with Tegrastats() as tool:
        threading.Event().wait(seconds)
    return tool.lines[:KEPT_LINES]
