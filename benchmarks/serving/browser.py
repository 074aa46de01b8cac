"""A real browser that shows the wall: Chromium without a window, and what it costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1440,900")


class Browser:
    """Chromium with one page open."""

    def __init__(self, address: str) -> None:
        """Start it; RuntimeError where there is none."""
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            raise RuntimeError(f"no browser is installed: {', '.join(PROGRAMS)}")
        self._profile = tempfile.mkdtemp(prefix="cstl_edge_browser_")
        self._process = subprocess.Popen(
            [program, *ARGUMENTS, f"--user-data-dir={self._profile}", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._began_s = self._cpu_s = 0.0

    def begin(self) -> None:
        """Count from now on."""
        self._began_s, self._cpu_s = time.monotonic(), self._spent_s()

    def end(self) -> float:
        """End it; return the cores that it took."""
        cores = (self._spent_s() - self._cpu_s) / (time.monotonic() - self._began_s)
        self._process.terminate()
        self._process.wait(20)
        shutil.rmtree(self._profile, ignore_errors=True)
        return cores

    def _spent_s(self) -> float:
        """Return the processor time of all its processes, also of those that have ended."""
        parents, ticks = {}, {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    stat = (entry / "stat").read_text(encoding="ascii", errors="replace")
                except OSError:
                    continue
                fields = stat.rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                ticks[int(entry.name)] = sum(map(int, fields[11:15]))
        own = {self._process.pid}
        while more := {pid for pid, parent in parents.items() if parent in own} - own:
            own |= more
        return sum(ticks.get(pid, 0) for pid in own) / os.sysconf("SC_CLK_TCK")
