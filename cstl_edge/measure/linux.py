"""Clocks, temperatures and throttling of a processor, as Linux tells them."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

SHORTEST_S = 0.2  # the kernel counts in hundredths of a second


@dataclass(frozen=True)
class Load:
    """Seconds of all cores together, since some moment."""

    at_s: float
    own_s: float
    """Of this process with its threads, and of its children that ended."""
    busy_s: float | None = None
    """Of every process of the machine; None where the kernel does not tell."""
    stolen_s: float | None = None
    """That a hypervisor gave to other machines."""
    quota_s: float | None = None
    """That this container had to wait because its share was used up."""


def load(tree: Tree) -> Load:
    """Return the counters as they stand now."""
    times = os.times()
    own_s = times.user + times.system + times.children_user + times.children_system
    busy_s, stolen_s = _machine(tree)
    return Load(time.monotonic(), own_s, busy_s, stolen_s, _quota_s(tree))


def cores_between(before: Load, after: Load) -> dict[str, float]:
    """Return who kept how many cores busy (`own`, `others`, `stolen`), and waits for a quota.

    A running child of ours counts as others. What is not known is absent; so is all if the two
    moments are closer than SHORTEST_S.
    """
    elapsed_s = after.at_s - before.at_s
    if elapsed_s < SHORTEST_S:
        return {}
    own_s = after.own_s - before.own_s
    found = {"own_cores": own_s / elapsed_s}
    if before.busy_s is not None and after.busy_s is not None:
        found["others_cores"] = max(0.0, after.busy_s - before.busy_s - own_s) / elapsed_s
    if before.stolen_s is not None and after.stolen_s is not None:
        found["stolen_cores"] = (after.stolen_s - before.stolen_s) / elapsed_s
    if before.quota_s is not None and after.quota_s is not None:
        found["quota_wait_s"] = after.quota_s - before.quota_s
    return {key: round(value, 3) for key, value in found.items()}


def _machine(tree: Tree) -> tuple[float | None, float | None]:
    """Return busy and stolen seconds from the first line of /proc/stat."""
    fields = ((tree.text("proc/stat") or "").split("\n")[0]).split()
    if len(fields) < 9 or fields[0] != "cpu" or not all(x.isdigit() for x in fields[1:9]):
        return None, None
    user, nice, system, _idle, _wait, irq, softirq, stolen = (int(x) for x in fields[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / ticks, stolen / ticks


def _quota_s(tree: Tree) -> float | None:
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


CPUFREQ = "sys/devices/system/cpu/cpufreq/policy*"
SENSORS = {"coretemp", "k10temp", "zenpower", "cpu_thermal"}  # hwmon's names of processors
PLAUSIBLE_C = (-40.0, 150.0)  # sensors that are off tell -256 or 0x7fffffff
SLOWING = re.compile(r"(thermal-)?(cpufreq|devfreq)-|Processor$|.*throttle-alert$|intel_powerclamp")
"""Types of cooling devices that slow something down; a fan does not."""


def clocks_mhz(tree: Tree) -> dict[str, float]:
    """Return min, median and max over the cores' present clocks [MHz]; empty where none shows."""
    found = [khz / 1e3 for _, khz in tree.numbers(f"{CPUFREQ}/scaling_cur_freq")]
    if not found:
        shown = tree.text("proc/cpuinfo") or ""
        found = [float(x) for x in re.findall(r"^cpu MHz\s*:\s*(\d+(?:\.\d+)?)$", shown, re.M)]
    if not found:
        return {}
    return {"min": min(found), "median": round(median(found), 1), "max": max(found)}


def held_mhz(tree: Tree) -> float | None:
    """Return the clock that all cores are held at (least = most allowed) [MHz]; None if free."""
    pairs = [
        (tree.number(policy / "scaling_min_freq"), tree.number(policy / "scaling_max_freq"))
        for policy in tree.match(CPUFREQ)
    ]
    if not pairs or any(low is None or low != high for low, high in pairs):
        return None
    return max(high for _, high in pairs if high is not None) / 1e3


def governor(tree: Tree) -> str | None:
    """Return who chooses the clocks, e.g. `performance`; several joined by commas."""
    found = {tree.text(path) for path in tree.match(f"{CPUFREQ}/scaling_governor")} - {None}
    return ", ".join(sorted(str(x) for x in found)) or None


def temperatures_c(tree: Tree) -> dict[str, float]:
    """Return thermal zones, and processors that hwmon alone knows, by name [°C]."""
    zones = tree.match("sys/class/thermal/thermal_zone*")
    chips = tree.match("sys/class/hwmon/hwmon*")
    places = [(tree.text(x / "type"), x / "temp") for x in zones]
    places += [
        (name, x / "temp1_input") for x in chips if (name := tree.text(x / "name")) in SENSORS
    ]
    found: dict[str, float] = {}
    seen: Counter[str] = Counter()
    for name, path in places:
        value_c = (tree.number(path) or 0) / 1e3
        if name and value_c and PLAUSIBLE_C[0] < value_c < PLAUSIBLE_C[1]:
            seen[name] += 1
            found[name if seen[name] == 1 else f"{name} {seen[name]}"] = value_c
    return found


def heat_events(tree: Tree) -> int | None:
    """Return how often cores and packages were slowed for heat since boot; None: not counted."""
    counters = "sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count"
    found = [value for _, value in tree.numbers(counters)]
    return sum(found) if found else None


def slowed_by(tree: Tree) -> list[str]:
    """Return the cooling devices that slow something down at this moment."""
    names = (
        tree.text(path.with_name("type"))
        for path, state in tree.numbers("sys/class/thermal/cooling_device*/cur_state")
        if state > 0
    )
    return [name for name in names if name and SLOWING.match(name)]
