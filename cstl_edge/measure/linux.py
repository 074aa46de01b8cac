"""Clocks, temperatures and throttling of a processor, as Linux tells them."""

from __future__ import annotations

import re
from collections import Counter
from statistics import median

from cstl_edge.measure.tree import Tree

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
