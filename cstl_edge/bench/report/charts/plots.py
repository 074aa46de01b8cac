"""Plots of the report, each as a `Picture`.

Row by row: strips of samples, stacked stages, ratios with intervals (forest plot). Scattered:
accuracy over time, rates under a roofline, a search for the most walkers. All are about as wide as
a phone and grow on a desk, so that their letters stay readable on both: rows carry their names
above them, and marks are numbered where names would not fit, explained beside the picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cstl_edge.bench.report.charts.svg import (
    INK,
    LABEL,
    MUTED,
    PAPER,
    SERIES,
    Picture,
    backend_colour,
    canvas,
    logarithmic_ticks,
    picture,
    precision_marker,
)
from cstl_edge.bench.report.compare import Difference
from cstl_edge.bench.report.formatting import quantile
from cstl_edge.errors import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST_DOTS = 160
FEW_DOTS = 40
LARGEST_DOTS = 20  # of the slowest samples none is left out of a picture
GOLDEN = 0.618034
TOUCHING = 14  # pixels between two marks
LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Bar:
    """Medians of stages in their order; median and 99th percentile of the whole [ms]."""

    label: str
    stages: Mapping[str, float]
    whole: tuple[float, float] | None


@dataclass(frozen=True)
class Point:
    """One mark."""

    label: str
    backend: str
    x: float
    y: float
    interval: tuple[float, float] | None = None  # 95 % interval of y, where it is known


@dataclass(frozen=True)
class TriedCount:
    """A number of walkers that a search tried, and whether it held."""

    walkers: float
    p99_ms: float
    held: bool


def strip_plot(title: str, rows: Sequence[tuple[str, str, Sequence[float]]]) -> Picture:
    """Draw the samples of each row as a strip of dots, with bars at the percentiles.

    Args:
        title: Title over the picture.
        rows: Label, name of the backend, samples [ms].
    """
    floor = min((x for _, _, samples in rows for x in samples if x > 0), default=1e-3)
    with canvas(44 * len(rows) + 42) as (figure, axes):
        axes.set_xscale("log")
        for k, (label, name, samples) in enumerate(rows):
            _strip(axes, -k, one_line(label, LABEL), name, [max(x, floor) for x in samples])
        axes.set_ylim(-len(rows) + 0.65, 0.65)
        _hide_y(axes)
        axes.set_xlabel("milliseconds (logarithmic)")
        logarithmic_ticks(axes.xaxis)
        facts = (
            f"{label}: median {quantile(samples, 50)} ms, p99 {quantile(samples, 99)} ms"
            for label, _, samples in rows
        )
        caption = "Dots are samples; bars p50 (tall), p90 and p99; at the right p50 | p99."
        if any(len(samples) > MOST_DOTS for _, _, samples in rows):
            caption += f" Of many samples about {MOST_DOTS}, evenly by rank, and the largest."
        return picture(figure, title, facts, caption)


def _strip(axes: Axes, y: float, label: str, name: str, samples: Sequence[float]) -> None:
    ordered = sorted(samples)
    step = max(1, len(ordered) // MOST_DOTS)
    shown = sorted({*range(0, len(ordered), step), *range(len(ordered))[-LARGEST_DOTS:]})
    heights = [y + 0.32 * ((k * GOLDEN) % 1 - 0.5) for k in shown]
    size, alpha = (7, 0.4) if len(shown) > FEW_DOTS else (16, 0.8)
    dots = [ordered[k] for k in shown]
    axes.scatter(dots, heights, size, backend_colour(name), alpha=alpha, linewidth=0)
    for q, half, width in ((50, 0.22, 2.6), (90, 0.14, 1.4), (99, 0.14, 1.4)):
        at = quantile(ordered, q).value
        axes.plot([at] * 2, [y - half, y + half], color=INK, linewidth=width)
    _write(axes, 0, y + 0.22, label)
    _write(axes, 1, y + 0.22, f"{quantile(ordered, 50)} | {quantile(ordered, 99)}", ha="right")


def stacked_bars(title: str, bars: Sequence[Bar]) -> Picture:
    """Draw the stages of each bar one behind the other, above p50 to p99 of the whole."""
    names = list(dict.fromkeys(stage for bar in bars for stage in bar.stages))
    with canvas(44 * len(bars) + 44 + 16 * ((len(names) + 2) // 3)) as (figure, axes):
        for k, bar in enumerate(bars):
            start = 0.0
            for stage, width in bar.stages.items():
                colour = SERIES[names.index(stage) % len(SERIES)]
                label = one_line(stage, LABEL)
                axes.barh(
                    -k, width, 0.24, start, color=colour, edgecolor=PAPER, label=label, lw=0.6
                )
                start += width
            if bar.whole is not None:
                axes.plot(bar.whole, [-k - 0.22] * 2, color=INK, linewidth=1.3)
                for end in bar.whole:
                    axes.plot([end] * 2, [-k - 0.3, -k - 0.14], color=INK, linewidth=1.3)
            _write(axes, 0, -k + 0.16, one_line(bar.label, LABEL))
        axes.set_ylim(-len(bars) + 0.6, 0.75)
        _hide_y(axes)
        axes.set_xlim(0)
        axes.set_xlabel("milliseconds")
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        figure.legend(
            unique.values(), unique.keys(), loc="outside lower left", ncols=3, frameon=False,
            fontsize=10, handlelength=1.0, columnspacing=1.0,
        )  # fmt: skip
        facts = (
            f"{bar.label}: " + ", ".join(f"{s} {w:.3g} ms" for s, w in bar.stages.items())
            for bar in bars
        )
        caption = "Bars are medians of stages; the line below goes from p50 to p99 of the whole."
        return picture(figure, title, facts, caption)


def forest_plot(title: str, differences: Sequence[tuple[str, Difference]]) -> Picture:
    """Draw the ratio of medians of each (label, difference) with its interval, 1 in the middle."""
    colours = {"faster": SERIES[2], "slower": SERIES[1]}
    with canvas(36 * len(differences) + 42) as (figure, axes):
        axes.set_xscale("log")
        axes.axvline(1, color=MUTED, linewidth=1.2)
        for k, (label, difference) in enumerate(differences):
            colour = colours.get(difference.verdict, MUTED)
            if difference.interval is not None:
                axes.plot(difference.interval, [-k, -k], color=colour, linewidth=2)
            axes.scatter([difference.ratio], [-k], s=34, color=colour, zorder=3)
            over = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.5}  # the line at 1
            _write(axes, 0, -k + 0.2, one_line(label, LABEL), bbox=over)
            _write(axes, 1, -k + 0.2, difference.verdict, bbox=over, ha="right")
        axes.set_ylim(-len(differences) + 0.5, 0.8)
        _hide_y(axes)
        widest = max(abs(math.log(ratio)) for _, x in differences for ratio in _ends(x))
        axes.set_xlim(math.exp(-1.15 * widest), math.exp(1.15 * widest))
        axes.set_xlabel("time after / before (left: faster)")
        logarithmic_ticks(axes.xaxis)
        facts = (f"{label}: {x.ratio:.3g}, {x.verdict}" for label, x in differences)
        return picture(figure, title, facts)


def pareto_plot(title: str, points: Sequence[Point], x_label: str, y_label: str) -> Picture:
    """Draw points and their Pareto front: small x and large y are good.

    Args:
        title: Title over the picture.
        points: Marks of the picture.
        x_label: Label of the logarithmic axis.
        y_label: Label of the other axis.
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
        title: Title over the picture.
        roofs: Peaks by name [10^9 multiply-adds/s].
        slopes: Bandwidths by name [10^9 bytes/s].
        points: Marks at x [multiply-adds per byte], y [10^9 multiply-adds/s].
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
        title: Title over the picture.
        searches: Name of a backend, its tried numbers.
        limit: Limit of the latency [ms].
        labels: Labels of both axes.
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


def _write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write text at x in shares of the width, above y in rows."""
    axes.text(x, y, text, transform=axes.get_yaxis_transform(), va="bottom", fontsize=10, **style)


def _hide_y(axes: Axes) -> None:
    """Leave the vertical axis out: rows carry their names."""
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _ends(difference: Difference) -> tuple[float, ...]:
    """Return the ratios that need room in a picture; a change of 5 % always has."""
    ratios = (difference.ratio, *(difference.interval or ()), 1.05)
    return tuple(x for x in ratios if 0 < x < math.inf)
