"""Row-by-row plots: strips of samples, stacked stages, ratios with intervals (forest plot).

All are about as wide as a phone and grow on a desk, so that their letters stay readable on both:
rows carry their names above them, not beside them.
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
)
from cstl_edge.bench.report.compare import Difference
from cstl_edge.bench.report.formatting import quantile
from cstl_edge.errors import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_DOTS = 160
FEW_DOTS = 40
LARGEST_DOTS = 20  # of the slowest samples none is left out of a picture
GOLDEN = 0.618034


@dataclass(frozen=True)
class Bar:
    """Medians of stages in their order; median and 99th percentile of the whole [ms]."""

    label: str
    stages: Mapping[str, float]
    whole: tuple[float, float] | None


def strip_plot(title: str, rows: Sequence[tuple[str, str, Sequence[float]]]) -> Picture:
    """Draw the samples of each row as a strip of dots, with bars at the percentiles.

    Args:
        title: over the picture
        rows: label, name of the backend, samples [ms]
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
