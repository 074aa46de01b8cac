"""Open the power meters of this machine; report why each other kind is missing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cstl_edge.bench.power.base import Meter
from cstl_edge.bench.power.counters import NvmlMeter, RaplMeter
from cstl_edge.bench.power.rails import open_rails
from cstl_edge.errors import CstlEdgeError

WIDEST = {
    "cpu": ("module", "rails", "package", "gpu"),
    "gpu": ("module", "rails", "gpu", "package"),
}
"""Scopes by the device that ran the network; the first that is measured is a row's headline."""


@dataclass(frozen=True)
class MeterSet:
    """Meters that are open, and a line for each kind that is not here."""

    meters: list[Meter]
    missing: list[str]

    def headline(self, device: str) -> str:
        """Return the scope of a row's plain figures for a network that ran on `cpu` or `gpu`."""
        scopes = {scope for meter in self.meters for scope in meter.scopes}
        return next((scope for scope in WIDEST[device] if scope in scopes), min(scopes))


def open_meters(root: Path = Path("/"), nvml: Callable[[], Meter] = NvmlMeter) -> MeterSet:
    """Open every meter of this machine that answers; `root` is that of the file system."""
    meters: list[Meter] = []
    missing: list[str] = []
    openers: tuple[Callable[[], Meter], ...]
    openers = lambda: open_rails(root), nvml, lambda: RaplMeter(root)
    for opener in openers:
        try:
            with ExitStack() as stack:
                meter = opener()
                stack.callback(meter.close)
                meter.read()  # NVML on a board opens and then knows no power
                stack.pop_all()
            meters.append(meter)
        except CstlEdgeError as err:
            missing.append(str(err))
    return MeterSet(meters, missing)
