"""Clocks, temperatures, throttling and CPU load of a machine, from Linux's /proc and /sys."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

LONGEST = 1 << 20  # bytes read of a file
SHORTEST_S = 0.2  # the kernel counts in hundredths of a second
CPUFREQ = "sys/devices/system/cpu/cpufreq/policy*"
SENSORS = {"coretemp", "k10temp", "zenpower", "cpu_thermal"}  # hwmon's names of processors
PLAUSIBLE_C = (-40.0, 150.0)  # sensors that are off report -256 or 0x7fffffff
SLOWING = re.compile(r"(thermal-)?(cpufreq|devfreq)-|Processor$|.*throttle-alert$|intel_powerclamp")
"""Types of cooling devices that slow something down; a fan does not."""


@dataclass(frozen=True)
class SysfsTree:
    """The file system below `root`; tests give a tree of recorded files.

    The files that match a pattern are looked up once, so that reading between the samples of a
    measurement stays cheap.
    """

    root: Path = Path("/")
    _matches: dict[str, list[Path]] = field(default_factory=dict, compare=False, repr=False)

    def text(self, path: str | Path) -> str | None:
        """Return a file's text without white space and zeros at its ends; None without the file."""
        try:
            with (self.root / path).open("rb") as file:
                return file.read(LONGEST).decode("utf-8", "replace").strip("\0 \t\r\n")
        except OSError:  # missing, forbidden, or a sensor that is switched off
            return None

    def number(self, path: str | Path) -> int | None:
        """Return the whole number in a file; None without one."""
        text = self.text(path)
        return int(text) if text is not None and re.fullmatch(r"[+-]?\d{1,18}", text) else None

    def match(self, pattern: str) -> list[Path]:
        """Return the paths that match, cpu2 before cpu10."""
        if pattern not in self._matches:
            self._matches[pattern] = []
            with suppress(OSError):
                self._matches[pattern] = sorted(self.root.glob(pattern), key=_natural_order)
        return self._matches[pattern]

    def numbers(self, pattern: str) -> Iterator[tuple[Path, int]]:
        """Yield every file that matches and holds a whole number, with the number."""
        for path in self.match(pattern):
            value = self.number(path)
            if value is not None:
                yield path, value


def output_of(*command: str) -> str | None:
    """Return what a command prints; None where it cannot run or takes over five seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout


def _natural_order(path: Path) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", str(path))
    return [(int(piece), "") if piece.isdigit() else (0, piece) for piece in pieces]


@dataclass(frozen=True)
class CpuLoad:
    """Counters of CPU time: seconds of all cores together, since some moment."""

    at_s: float
    own_s: float  # of this process with its threads, and of its children that ended
    busy_s: float | None = None  # of every process; None where the kernel does not report it
    stolen_s: float | None = None  # that a hypervisor gave to other machines
    quota_s: float | None = None  # that this container waited because its share was used up


def read_load(tree: SysfsTree) -> CpuLoad:
    """Return the counters as they stand now."""
    times = os.times()
    own_s = times.user + times.system + times.children_user + times.children_system
    busy_s, stolen_s = _machine_seconds(tree)
    return CpuLoad(time.monotonic(), own_s, busy_s, stolen_s, _quota_s(tree))


def cores_between(before: CpuLoad, after: CpuLoad) -> dict[str, float]:
    """Return how many cores were busy for whom (`own`, `others`, `stolen`), and waits for a quota.

    A running child of ours counts as others. Unknown figures are absent; all are absent if the two
    moments are closer than SHORTEST_S.
    """
    pairs = {name: (getattr(before, name), getattr(after, name)) for name in vars(before)}
    spent = {name: b - a for name, (a, b) in pairs.items() if a is not None and b is not None}
    elapsed_s, own_s = spent["at_s"], spent["own_s"]
    if elapsed_s < SHORTEST_S:
        return {}
    cores = {"own_cores": own_s / elapsed_s}
    if "busy_s" in spent:
        cores["others_cores"] = max(0.0, spent["busy_s"] - own_s) / elapsed_s
    if "stolen_s" in spent:
        cores["stolen_cores"] = spent["stolen_s"] / elapsed_s
    if "quota_s" in spent:
        cores["quota_wait_s"] = spent["quota_s"]
    return {key: round(value, 3) for key, value in cores.items()}


def _machine_seconds(tree: SysfsTree) -> tuple[float | None, float | None]:
    """Return busy and stolen seconds from the first line of /proc/stat."""
    fields = ((tree.text("proc/stat") or "").split("\n")[0]).split()
    if len(fields) < 9 or fields[0] != "cpu" or not all(x.isdigit() for x in fields[1:9]):
        return None, None
    user, nice, system, _idle, _wait, irq, softirq, stolen = (int(x) for x in fields[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / ticks, stolen / ticks


def _quota_s(tree: SysfsTree) -> float | None:
    """Return how long the container was held back, by either form of cgroups."""
    for path, name, unit in (
        ("sys/fs/cgroup/cpu.stat", "throttled_usec", 1e6),
        ("sys/fs/cgroup/cpu/cpu.stat", "throttled_time", 1e9),
    ):
        for line in (tree.text(path) or "").splitlines():
            key, _, value = line.partition(" ")
            if key == name and value.isdigit():
                return int(value) / unit
    return None


def clocks_mhz(tree: SysfsTree) -> dict[str, float]:
    """Return min, median and max over the cores' present clocks [MHz]; empty if none is known."""
    clocks = [khz / 1e3 for _, khz in tree.numbers(f"{CPUFREQ}/scaling_cur_freq")]
    if not clocks:
        cpuinfo = tree.text("proc/cpuinfo") or ""
        clocks = [float(x) for x in re.findall(r"^cpu MHz\s*:\s*(\d+(?:\.\d+)?)$", cpuinfo, re.M)]
    if not clocks:
        return {}
    return {"min": min(clocks), "median": round(median(clocks), 1), "max": max(clocks)}


def held_clock(tree: SysfsTree, folders: Iterable[Path], prefix: str = "") -> int | None:
    """Return the clock that all of some devices are held at, in the unit of their files.

    Args:
        tree: File system of the machine.
        folders: Folders of the devices; each has PREFIXmin_freq and PREFIXmax_freq.
        prefix: Prefix of the files' names.

    Returns:
        The clock; None where there is no device, or one whose least and most allowed clock differ.
    """
    limits = [[tree.number(x / f"{prefix}{end}_freq") for end in ("min", "max")] for x in folders]
    if any(low is None or low != high for low, high in limits):
        return None
    return max((high for _, high in limits if high is not None), default=None)


def held_mhz(tree: SysfsTree) -> float | None:
    """Return the clock that all cores are held at [MHz]; None if a governor is free to choose."""
    khz = held_clock(tree, tree.match(CPUFREQ), "scaling_")
    return None if khz is None else khz / 1e3


def governor(tree: SysfsTree) -> str | None:
    """Return the governor of the clocks, e.g. `performance`; several joined by commas."""
    names = {tree.text(path) for path in tree.match(f"{CPUFREQ}/scaling_governor")} - {None}
    return ", ".join(sorted(str(x) for x in names)) or None


def temperatures_c(tree: SysfsTree) -> dict[str, float]:
    """Return thermal zones, and processors that hwmon alone knows, by name [°C]."""
    zones = tree.match("sys/class/thermal/thermal_zone*")
    chips = tree.match("sys/class/hwmon/hwmon*")
    sensors = [(tree.text(x / "type"), x / "temp") for x in zones]
    sensors += [
        (name, x / "temp1_input") for x in chips if (name := tree.text(x / "name")) in SENSORS
    ]
    temperatures: dict[str, float] = {}
    repeats: Counter[str] = Counter()
    for name, path in sensors:
        value_c = (tree.number(path) or 0) / 1e3
        if name and value_c and PLAUSIBLE_C[0] < value_c < PLAUSIBLE_C[1]:
            repeats[name] += 1
            temperatures[name if repeats[name] == 1 else f"{name} {repeats[name]}"] = value_c
    return temperatures


def heat_events(tree: SysfsTree) -> int | None:
    """Return how often heat slowed cores and packages since boot; None where it is not counted."""
    return total(tree, "sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count")


def total(tree: SysfsTree, pattern: str) -> int | None:
    """Return the sum of the numbers in all files that match; None where there is none."""
    counts = [value for _, value in tree.numbers(pattern)]
    return sum(counts) if counts else None


def slowed_by(tree: SysfsTree) -> list[str]:
    """Return the cooling devices that slow something down at this moment."""
    names = (
        tree.text(path.with_name("type"))
        for path, state in tree.numbers("sys/class/thermal/cooling_device*/cur_state")
        if state > 0
    )
    return [name for name in names if name and SLOWING.match(name)]
