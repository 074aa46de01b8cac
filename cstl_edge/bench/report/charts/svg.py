"""Figures of matplotlib as SVG inside a page: themed by the page's CSS, with ids of their own.

Colours are drawn as place-holders, which become variables of the page, so one picture serves light
and dark. Text stays text in the page's font. Nothing in it is an address or a style of the page's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure


WIDTH = 380  # units: about the pixels of a phone, where an 11 stays an 11
FONT = 11
LABEL = 44  # letters over a strip or bar
ID_PREFIX = "p@-"
INK, MUTED, GRID, PAPER = "#0b0b00", "#0b0b0a", "#0b0b0b", "#0b0b0c"
SERIES = tuple(f"#0b0b0{k}" for k in range(1, 8))
NAMES = {INK: "ink", MUTED: "muted", GRID: "line", PAPER: "paper"} | {
    colour: f"s{k}" for k, colour in enumerate(SERIES, 1)
}
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cstl_edge",  # the same picture has the same bytes
    "font.family": ["DejaVu Sans"],
    "font.size": FONT,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}
MOST_TICKS = 7
TICKS = (  # of a decade, fine to coarse
    tuple(x / 20 for x in range(20, 200)),
    (1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
    (1, 1.5, 2, 3, 5, 7),
    (1, 2, 5),
    (1,),
)
BACKENDS = ("onnxruntime", "openvino", "pytorch", "tensorrt", "tensorrt-rtx")
MARKERS = {"float32": "o", "float16": "s", "bfloat16": "D", "int8": "^"}


@dataclass(frozen=True)
class Picture:
    """One picture, its content in words, and the names of its numbered marks."""

    title: str
    svg: str
    alt: str
    caption: str = ""
    key: tuple[str, ...] = ()


@contextmanager
def canvas(height: float) -> Iterator[tuple[Figure, Axes]]:
    """Give an empty figure of WIDTH x height units and its axes; draw and save within."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02)  # type: ignore[union-attr, call-arg]
        yield figure, figure.add_subplot()


def picture(
    figure: Figure,
    title: str,
    facts: Iterable[str],
    caption: str = "",
    key: tuple[str, ...] = (),
) -> Picture:
    """Return a figure as a picture of a page; call within `canvas`.

    Args:
        figure: Figure of `canvas`.
        title: Title over the picture.
        facts: Its content in words, for readers who do not see it.
        caption: Text below the picture.
        key: Names of numbered marks.
    """
    alt = f"{title}: " + "; ".join(facts)
    return Picture(title, _inline(figure, alt), alt, caption, key)


def backend_colour(name: str) -> str:
    """Return the colour of a backend under test, the same in every picture."""
    backend = name.split(" ")[0]
    return SERIES[BACKENDS.index(backend) if backend in BACKENDS else len(BACKENDS)]


def precision_marker(name: str) -> str:
    """Return the shape of a backend's precision, the same in every picture."""
    words = name.replace(",", "").split(" ")
    return next((MARKERS[word] for word in words if word in MARKERS), "o")


def logarithmic_ticks(axis: Axis) -> None:
    """Give a logarithmic axis at most seven ticks at round numbers, written out."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    low, high = sorted(axis.get_view_interval())
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in TICKS:
        ticks = [x * 10.0**k for k in decades for x in steps if low <= x * 10.0**k <= high]
        if len(ticks) <= MOST_TICKS:
            break
    every = max(1, math.ceil(len(ticks) / MOST_TICKS))
    narrow = len(ticks) < 2  # nothing round lies there
    axis.set_major_locator(MaxNLocator(4) if narrow else FixedLocator(ticks[::every]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _inline(figure: Figure, alt: str) -> str:
    """Return a figure as SVG for the middle of a page; only tags are changed, never their text.

    `alt` is the `aria-label`. Ids begin with ID_PREFIX, for which the page puts a number.
    """
    from markupsafe import escape

    file = StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    body = file.getvalue()
    view = re.search(r'viewBox="([0-9. ]+)"', body)
    body = body[body.index(">", body.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.S)  # would rule the whole page
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', body))
    body = re.sub(r"<[^>]+>", lambda tag: _with_own_ids(_themed(tag[0]), used), body)
    box = view[1] if view else f"0 0 {WIDTH} {WIDTH}"
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(alt)}">{body}'


def _themed(tag: str) -> str:
    """Give a tag the page's colours and font, and figures no finer than a screen shows."""
    tag = re.sub(r"#0b0b0[0-9a-c]", lambda hit: f"var(--{NAMES[hit[0]]})", tag)
    tag = re.sub(r"\d+\.\d{3,}", lambda hit: f"{float(hit[0]):.2f}", tag)
    tag = re.sub(r"font: ([0-9.]+)px [^;\"]+", r"font-size: \1px", tag)  # of older matplotlib
    return re.sub(r"font-family: [^;\"]+;? ?", "", tag)


def _with_own_ids(tag: str, used: set[str]) -> str:
    """Drop an id that nothing refers to, and put the picture's prefix before others."""
    tag = re.sub(
        r' id="([^"]+)"', lambda hit: f' id="{ID_PREFIX}{hit[1]}"' if hit[1] in used else "", tag
    )
    tag = re.sub(r"url\(#([^)]+)\)", rf"url(#{ID_PREFIX}\1)", tag)
    return re.sub(r'(?:xlink:)?href="#([^"]+)"', rf'href="#{ID_PREFIX}\1"', tag)
