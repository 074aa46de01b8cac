"""Which meters this machine has, and why not the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cstl_edge.bench.power.counters import Nvml, Rapl
from cstl_edge.bench.power.meter import Meter
from cstl_edge.bench.power.rails import CHIPS, HWMON, Rails, find_channels
from cstl_edge.errors import CstlEdgeError, SourceUnavailable

WIDEST = {
    "cpu": ("module", "rails", "package", "gpu"),
    "gpu": ("module", "rails", "gpu", "package"),
}
"""Which scope is a row's headline, by where the network ran: the first that is measured."""


@dataclass(frozen=True)
class MeterSet:
    """Meters that are open, and a line for each kind that is not here."""

    meters: list[Meter]
    looked: list[str]

    def close(self) -> None:
        """Close the meters."""
        for meter in self.meters:
            meter.close()

    def headline(self, device: str) -> str:
        """Return the scope that a row's plain figures are of."""
        scopes = {scope for meter in self.meters for scope in meter.scopes}
        return next((scope for scope in WIDEST[device] if scope in scopes), min(scopes))


def open_meters(root: Path = Path("/"), nvml: Callable[[], Meter] = Nvml) -> MeterSet:
    """Open every meter of this machine that answers.

    root: of the file system; nvml: in place of the GPU's
    """
    found = MeterSet([], [])
    tries: tuple[Callable[[], Meter], ...] = (lambda: _rails(root), nvml, lambda: Rapl(root))
    for attempt in tries:
        try:
            found.meters.append(_answering(attempt()))
        except CstlEdgeError as err:
            found.looked.append(str(err))
    return found


def _answering(meter: Meter) -> Meter:
    """Return a meter that has answered once: NVML on a board opens and then knows no power."""
    try:
        meter.read()
    except CstlEdgeError:
        meter.close()
        raise
    return meter


def _rails(root: Path) -> Meter:
    channels = find_channels(root)
    if not channels:
        raise SourceUnavailable(f"no labelled channel of {', '.join(CHIPS)} in /{HWMON}")
    return Rails(channels)
