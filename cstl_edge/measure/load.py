"""How busy the processor was between two moments, and by whom."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from cstl_edge.measure.tree import Tree

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
