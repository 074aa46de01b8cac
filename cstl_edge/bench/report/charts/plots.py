"""Pictures of rows: samples, stages, differences; each from plain figures to SVG.

All are about as wide as a phone and grow on a desk, so that their letters stay readable on both:
rows carry their names above them, not beside them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from cstl_edge.bench.report.charts.svg import (
    INK,
    MUTED,
    PAPER,
    SERIES,
    colour_of,
    drawing,
    figure,
    inline,
    logarithmic,
)
from cstl_edge.bench.report.compare import Difference
from cstl_edge.bench.report.formatting import mark
from cstl_edge.errors import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_DOTS = 160
FEW_DOTS = 40
LARGEST_DOTS = 20  # of the slowest samples none is left out of a picture
LABEL = 44  # letters over a strip or bar
GOLDEN = 0.618034


@dataclass(frozen=True)
class Picture:
    """One picture, what it shows in words, and the names of its numbered marks."""

    title: str
    svg: str
    alt: str
    caption: str = ""
    key: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bar:
    """Medians of stages in their order; median and 99th percentile of the whole [ms]."""

    label: str
    stages: Mapping[str, float]
    whole: tuple[float, float] | None


def strips(title: str, rows: Sequence[tuple[str, str, Sequence[float]]], n: count[int]) -> Picture:
    """Draw the samples [ms] of each (label, contender, samples) as a strip of dots with marks."""
    floor = min((x for _, _, samples in rows for x in samples if x > 0), default=1e-3)
    with drawing():
        made, axes = figure(44 * len(rows) + 42)
        axes.set_xscale("log")
        for k, (label, contender, samples) in enumerate(rows):
            _strip(axes, -k, one_line(label, LABEL), contender, [max(x, floor) for x in samples])
        axes.set_ylim(-len(rows) + 0.65, 0.65)
        _no_y(axes)
        axes.set_xlabel("milliseconds (logarithmic)")
        logarithmic(axes.xaxis)
        alt = f"{title}: " + "; ".join(
            f"{label}: median {mark(samples, 50)} ms, p99 {mark(samples, 99)} ms"
            for label, _, samples in rows
        )
        caption = "Dots are samples; bars p50 (tall), p90 and p99; at the right p50 | p99."
        if any(len(samples) > MOST_DOTS for _, _, samples in rows):
            caption += f" Of many samples about {MOST_DOTS}, evenly by rank, and the largest."
        return Picture(title, inline(made, alt, n), alt, caption)


def _strip(axes: Axes, y: float, label: str, contender: str, samples: Sequence[float]) -> None:
    ordered = sorted(samples)
    step = max(1, len(ordered) // MOST_DOTS)
    shown = sorted({*range(0, len(ordered), step), *range(len(ordered))[-LARGEST_DOTS:]})
    heights = [y + 0.32 * ((k * GOLDEN) % 1 - 0.5) for k in shown]
    colour = colour_of(contender)
    size, alpha = (7, 0.4) if len(shown) > FEW_DOTS else (16, 0.8)
    axes.scatter([ordered[k] for k in shown], heights, size, colour, alpha=alpha, linewidth=0)
    for q, half, width in ((50, 0.22, 2.6), (90, 0.14, 1.4), (99, 0.14, 1.4)):
        axes.plot([mark(ordered, q).value] * 2, [y - half, y + half], color=INK, linewidth=width)
    edge = axes.get_yaxis_transform()  # x in shares of the width, y in rows
    axes.text(0, y + 0.22, label, transform=edge, va="bottom", fontsize=10)
    told = f"{mark(ordered, 50)} | {mark(ordered, 99)}"
    axes.text(1, y + 0.22, told, transform=edge, va="bottom", ha="right", fontsize=10)


def stacks(title: str, bars: Sequence[Bar], n: count[int]) -> Picture:
    """Draw the stages of each bar one behind the other, above p50 to p99 of the whole."""
    names = list(dict.fromkeys(stage for bar in bars for stage in bar.stages))
    with drawing():
        made, axes = figure(44 * len(bars) + 44 + 16 * ((len(names) + 2) // 3))
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
            edge = axes.get_yaxis_transform()
            label = one_line(bar.label, LABEL)
            axes.text(0, -k + 0.16, label, transform=edge, va="bottom", fontsize=10)
        axes.set_ylim(-len(bars) + 0.6, 0.75)
        _no_y(axes)
        axes.set_xlim(0)
        axes.set_xlabel("milliseconds")
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        made.legend(
            unique.values(), unique.keys(), loc="outside lower left", ncols=3, frameon=False,
            fontsize=10, handlelength=1.0, columnspacing=1.0,
        )  # fmt: skip
        alt = f"{title}: " + "; ".join(
            f"{bar.label}: " + ", ".join(f"{s} {w:.3g} ms" for s, w in bar.stages.items())
            for bar in bars
        )
        caption = "Bars are medians of stages; the line below goes from p50 to p99 of the whole."
        return Picture(title, inline(made, alt, n), alt, caption)


def forest(title: str, found: Sequence[tuple[str, Difference]], n: count[int]) -> Picture:
    """Draw the ratio of medians of each (label, difference) with its interval, 1 in the middle."""
    colours = {"faster": SERIES[2], "slower": SERIES[1]}
    with drawing():
        made, axes = figure(36 * len(found) + 42)
        axes.set_xscale("log")
        axes.axvline(1, color=MUTED, linewidth=1.2)
        for k, (label, one) in enumerate(found):
            colour = colours.get(one.verdict, MUTED)
            if one.interval is not None:
                axes.plot(one.interval, [-k, -k], color=colour, linewidth=2)
            axes.scatter([one.ratio], [-k], s=34, color=colour, zorder=3)
            over = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.5}  # the line at 1
            edge = axes.get_yaxis_transform()
            at: dict[str, Any] = {"transform": edge, "va": "bottom", "fontsize": 10, "bbox": over}
            axes.text(0, -k + 0.2, one_line(label, LABEL), **at)
            axes.text(1, -k + 0.2, one.verdict, ha="right", **at)
        axes.set_ylim(-len(found) + 0.5, 0.8)
        _no_y(axes)
        widest = max(abs(math.log(x)) for _, one in found for x in _ends(one))
        axes.set_xlim(math.exp(-1.15 * widest), math.exp(1.15 * widest))
        axes.set_xlabel("time after / before (left: faster)")
        logarithmic(axes.xaxis)
        alt = f"{title}: " + "; ".join(
            f"{label}: {one.ratio:.3g}, {one.verdict}" for label, one in found
        )
        return Picture(title, inline(made, alt, n), alt)


def _no_y(axes: Axes) -> None:
    """Leave the vertical axis out: rows carry their names."""
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _ends(one: Difference) -> tuple[float, ...]:
    """Return what a picture must have room for; a change of 5 % always has."""
    return tuple(x for x in (one.ratio, *(one.interval or ()), 1.05) if 0 < x < math.inf)
