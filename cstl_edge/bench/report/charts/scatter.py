"""Pictures of planes: accuracy over time, rates under their roofs, a search for a limit.

Marks are numbered, since names would not fit; the numbers are explained beside the picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from cstl_edge.bench.report.charts.plots import LABEL, Picture
from cstl_edge.bench.report.charts.svg import (
    INK,
    MUTED,
    colour_of,
    drawing,
    figure,
    inline,
    logarithmic,
    marker_of,
)
from cstl_edge.errors import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


TOUCHING = 14  # pixels between two marks
LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Point:
    """One mark of a plane, with 95 % intervals where they are known."""

    label: str
    contender: str
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Try:
    """A number of walkers that was tried, and whether it held."""

    walkers: float
    p99_ms: float
    held: bool


def plane(
    title: str, points: Sequence[Point], x_label: str, y_label: str, n: count[int]
) -> Picture:
    """Draw points with what none beats in both ways joined: small x and large y are good."""
    ordered = sorted(points, key=lambda p: p.x)
    with drawing():
        made, axes = figure(300)
        axes.set_xscale("log")
        front = pareto([(p.x, p.y) for p in ordered])
        edge = [ordered[k] for k in front]
        axes.step([p.x for p in edge], [p.y for p in edge], where="post", color=MUTED, lw=1.2)
        for point in ordered:
            _spread(axes, point)
        axes.margins(0.12, 0.15)
        if all(point.y <= 100 for point in ordered):  # percent: no room is needed above
            axes.set_ylim(top=min(axes.get_ylim()[1], 101))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        logarithmic(axes.xaxis)
        _numbered(made, axes, ordered)
        alt = f"{title}: " + "; ".join(f"{p.label}: {p.x:.3g}, {p.y:.3g}" for p in ordered)
        return Picture(title, inline(made, alt, n), alt, key=tuple(p.label for p in ordered))


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which points no other beats, the smaller x and the larger y, by rising x.

    >>> pareto([(1, 5), (2, 4), (3, 6), (3, 7)])
    [0, 3]
    """
    found: list[int] = []
    for k in sorted(range(len(points)), key=lambda k: (points[k][0], -points[k][1])):
        if not found or points[k][1] > points[found[-1]][1]:
            found.append(k)
    return found


def roofline(
    title: str,
    roofs: Mapping[str, float],
    slopes: Mapping[str, float],
    points: Sequence[Point],
    n: count[int],
) -> Picture:
    """Draw what each row reached under the roofs of the machine.

    roofs:  peaks by name [10^9 multiply-adds/s]
    slopes: bandwidths by name [10^9 bytes/s]
    points: x [multiply-adds per byte], y [10^9 multiply-adds/s]
    """
    ordered = sorted(points, key=lambda p: (p.x, -p.y))
    with drawing():
        made, axes = figure(340)
        axes.set_xscale("log")
        axes.set_yscale("log")
        _roofs(axes, roofs, slopes, [p.x for p in ordered])
        axes.set_xlabel("multiply-adds per byte moved")
        axes.set_ylabel("10⁹ multiply-adds per second")
        logarithmic(axes.xaxis)
        logarithmic(axes.yaxis)
        _numbered(made, axes, ordered)
        alt = f"{title}: " + "; ".join(
            f"{p.label}: {p.y:.3g} of 10⁹ multiply-adds/s" for p in ordered
        )
        return Picture(title, inline(made, alt, n), alt, key=tuple(p.label for p in ordered))


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


def tries(
    title: str,
    found: Sequence[tuple[str, Sequence[Try]]],
    limit: float,
    labels: tuple[str, str],
    n: count[int],
) -> Picture:
    """Draw every number that was tried of each contender, filled where it held."""
    from matplotlib.ticker import MaxNLocator

    with drawing():
        made, axes = figure(260 + 16 * len(found))
        axes.set_yscale("log")
        axes.axhline(limit, color=INK, linewidth=1, linestyle="--")
        for contender, points in found:
            shape, colour = marker_of(contender), colour_of(contender)
            for inside, fill in ((True, colour), (False, "none")):
                x = [one.walkers for one in points if one.held is inside]
                y = [one.p99_ms for one in points if one.held is inside]
                axes.scatter(x, y, s=38, marker=shape, facecolors=fill, edgecolors=colour, zorder=3)
            axes.scatter([], [], s=38, marker=shape, color=colour, label=one_line(contender, LABEL))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        logarithmic(axes.yaxis)
        made.legend(loc="outside lower left", frameon=False, fontsize=10)
        alt = f"{title}: " + "; ".join(
            f"{contender}: " + ", ".join(f"{one.walkers:g}: {one.p99_ms:.3g}" for one in points)
            for contender, points in found
        )
        caption = f"Filled: held. The line is {limit:g} ms. Every try is there, repetitions too."
        return Picture(title, inline(made, alt, n), alt, caption)


def _spread(axes: Axes, point: Point) -> None:
    colour = colour_of(point.contender)
    if point.x_interval is not None:
        axes.plot(point.x_interval, [point.y] * 2, color=colour, linewidth=1.4, alpha=0.7)
    if point.y_interval is not None:
        axes.plot([point.x] * 2, point.y_interval, color=colour, linewidth=1.4, alpha=0.7)


def _numbered(made: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Put a mark at each point and its number beside it; marks that touch share one label."""
    for point in points:
        shape, colour = marker_of(point.contender), colour_of(point.contender)
        axes.scatter(point.x, point.y, s=60, marker=shape, color=colour, linewidth=0, zorder=3)
    made.draw_without_rendering()  # the layout settles where they lie
    places = [tuple(axes.transData.transform((point.x, point.y))) for point in points]
    for group in _touching(places):
        first = points[group[0]]
        aside = max(places[k][0] for k in group) - places[group[0]][0]
        axes.annotate(
            ", ".join(str(k + 1) for k in group), (first.x, first.y),
            (aside * 72 / made.dpi + 6, 0), textcoords="offset points", va="center", fontsize=10,
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
