"""Scatter plots: accuracy over time, rates under a roofline, a search for the most walkers.

Marks are numbered, since names would not fit; the numbers are explained beside the picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cstl_edge.bench.report.charts.svg import (
    INK,
    LABEL,
    MUTED,
    Picture,
    backend_colour,
    canvas,
    logarithmic_ticks,
    picture,
    precision_marker,
)
from cstl_edge.errors import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


TOUCHING = 14  # pixels between two marks
LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Point:
    """One mark."""

    label: str
    backend: str
    x: float
    y: float
    interval: tuple[float, float] | None = None
    """95 % interval of y, where it is known."""


@dataclass(frozen=True)
class TriedCount:
    """A number of walkers that a search tried, and whether it held."""

    walkers: float
    p99_ms: float
    held: bool


def pareto_plot(title: str, points: Sequence[Point], x_label: str, y_label: str) -> Picture:
    """Draw points and their Pareto front: small x and large y are good.

    Args:
        title: over the picture
        points: the marks
        x_label: of the logarithmic axis
        y_label: of the other
    """
    ordered = sorted(points, key=lambda p: p.x)
    with canvas(300) as (figure, axes):
        axes.set_xscale("log")
        front = [ordered[k] for k in pareto([(p.x, p.y) for p in ordered])]
        axes.step([p.x for p in front], [p.y for p in front], where="post", color=MUTED, lw=1.2)
        for point in ordered:
            if point.interval is not None:
                colour = backend_colour(point.backend)
                axes.plot([point.x] * 2, point.interval, color=colour, linewidth=1.4, alpha=0.7)
        axes.margins(0.12, 0.15)
        if all(point.y <= 100 for point in ordered):  # percent: no room is needed above
            axes.set_ylim(top=min(axes.get_ylim()[1], 101))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        logarithmic_ticks(axes.xaxis)
        _numbered(figure, axes, ordered)
        facts = (f"{p.label}: {p.x:.3g}, {p.y:.3g}" for p in ordered)
        return picture(figure, title, facts, key=tuple(p.label for p in ordered))


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which points no other beats, the smaller x and the larger y, by rising x.

    >>> pareto([(1, 5), (2, 4), (3, 6), (3, 7)])
    [0, 3]
    """
    front: list[int] = []
    for k in sorted(range(len(points)), key=lambda k: (points[k][0], -points[k][1])):
        if not front or points[k][1] > points[front[-1]][1]:
            front.append(k)
    return front


def roofline_plot(
    title: str, roofs: Mapping[str, float], slopes: Mapping[str, float], points: Sequence[Point]
) -> Picture:
    """Draw the rate that each row reached under the roofs of the machine.

    Args:
        title: over the picture
        roofs: peaks by name [10^9 multiply-adds/s]
        slopes: bandwidths by name [10^9 bytes/s]
        points: x [multiply-adds per byte], y [10^9 multiply-adds/s]
    """
    ordered = sorted(points, key=lambda p: (p.x, -p.y))
    with canvas(340) as (figure, axes):
        axes.set_xscale("log")
        axes.set_yscale("log")
        _roofs(axes, roofs, slopes, [p.x for p in ordered])
        axes.set_xlabel("multiply-adds per byte moved")
        axes.set_ylabel("10⁹ multiply-adds per second")
        logarithmic_ticks(axes.xaxis)
        logarithmic_ticks(axes.yaxis)
        _numbered(figure, axes, ordered)
        facts = (f"{p.label}: {p.y:.3g} of 10⁹ multiply-adds/s" for p in ordered)
        return picture(figure, title, facts, key=tuple(p.label for p in ordered))


def _roofs(
    axes: Axes, roofs: Mapping[str, float], slopes: Mapping[str, float], at: Sequence[float]
) -> None:
    """Draw flat roofs from where the steepest slope meets them, slopes up to the highest roof."""
    highest, steepest = max(roofs.values()), max(slopes.values())
    ridges = [peak / width for peak in roofs.values() for width in slopes.values()]
    left, right = min([*at, *ridges]) / 3, max([*at, *ridges]) * 3
    for k, (name, width) in enumerate(slopes.items()):
        axes.plot((left, highest / width), (left * width, highest), LINES[k], color=MUTED, lw=1.2)
        at_x = left * (highest / width / left) ** (0.15 + 0.3 * k)  # one after the other
        axes.text(at_x, at_x * width, f" {name}", va="top", fontsize=9.5)
    for name, peak in roofs.items():
        axes.plot((peak / steepest, right), (peak, peak), color=INK, linewidth=1.2)
        axes.text(right, peak, one_line(name, LABEL), ha="right", va="bottom", fontsize=9.5)
    axes.set_xlim(left, right)


def search_plot(
    title: str,
    searches: Sequence[tuple[str, Sequence[TriedCount]]],
    limit: float,
    labels: tuple[str, str],
) -> Picture:
    """Draw every number that was tried of each backend, filled where it held.

    Args:
        title: over the picture
        searches: name of a backend, its tried numbers
        limit: of the latency [ms]
        labels: of both axes
    """
    from matplotlib.ticker import MaxNLocator

    with canvas(260 + 16 * len(searches)) as (figure, axes):
        axes.set_yscale("log")
        axes.axhline(limit, color=INK, linewidth=1, linestyle="--")
        for name, tried in searches:
            shape, colour = precision_marker(name), backend_colour(name)
            for held, fill in ((True, colour), (False, "none")):
                x = [trial.walkers for trial in tried if trial.held is held]
                y = [trial.p99_ms for trial in tried if trial.held is held]
                axes.scatter(x, y, s=38, marker=shape, facecolors=fill, edgecolors=colour, zorder=3)
            axes.scatter([], [], s=38, marker=shape, color=colour, label=one_line(name, LABEL))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        logarithmic_ticks(axes.yaxis)
        figure.legend(loc="outside lower left", frameon=False, fontsize=10)
        facts = (
            f"{name}: " + ", ".join(f"{trial.walkers:g}: {trial.p99_ms:.3g}" for trial in tried)
            for name, tried in searches
        )
        caption = f"Filled: held. The line is {limit:g} ms. Every try is there, repetitions too."
        return picture(figure, title, facts, caption)


def _numbered(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Put a mark at each point and its number beside it; marks that touch share one label."""
    for point in points:
        shape, colour = precision_marker(point.backend), backend_colour(point.backend)
        axes.scatter(point.x, point.y, s=60, marker=shape, color=colour, linewidth=0, zorder=3)
    figure.draw_without_rendering()  # the layout settles where they lie
    places = [tuple(axes.transData.transform((point.x, point.y))) for point in points]
    for group in _touching(places):
        first = points[group[0]]
        aside = max(places[k][0] for k in group) - places[group[0]][0]
        axes.annotate(
            ", ".join(str(k + 1) for k in group), (first.x, first.y),
            (aside * 72 / figure.dpi + 6, 0), textcoords="offset points", va="center", fontsize=10,
            zorder=4,
        ).set_in_layout(False)  # fmt: skip


def _touching(places: Sequence[Sequence[float]]) -> list[list[int]]:
    """Return the numbers of marks in groups, each mark near the first of its group."""
    groups: list[list[int]] = []
    for k, place in enumerate(places):
        near = (g for g in groups if math.dist(places[g[0]], place) < TOUCHING)
        group = next(near, None)
        if group is None:
            groups.append([k])
        else:
            group.append(k)
    return groups
