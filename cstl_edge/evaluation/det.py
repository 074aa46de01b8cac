"""DET curve as a PNG: FNIR over FPIR, both logarithmic; drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from cstl_edge.output import write_file

WIDTH, HEIGHT = 900, 640  # pixels
LEFT, TOP, RIGHT, BOTTOM = 100, 80, 30, 80  # margins
INK, GRID, LINE, MARK = (30, 30, 30), (225, 225, 225), (0, 90, 170), (200, 60, 20)
FLOOR = 1e-3  # lower end of an axis whose rates are all 0


def write_det(result: Mapping[str, Any], path: str | Path, title: str) -> None:
    """Write the curve of an `open-set` record as PNG, the wanted rates marked.

    Args:
        result: Record of `evaluate_open_set`.
        path: PNG file to write.
        title: Heading of the picture.

    Raises:
        StorageError: The disk refuses.
    """
    picture = BytesIO()
    _draw(result, title).save(picture, format="PNG")
    write_file(path, picture.getvalue())


def _draw(result: Mapping[str, Any], title: str) -> Any:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(18)
    low_x, low_y = (_decade([p[rate] for p in result["det"]]) for rate in ("fpir", "fnir"))

    def at(fpir: float, fnir: float) -> tuple[int, int]:  # the pixel, kept within the frame
        right = 1 - math.log10(max(fpir, low_x)) / math.log10(low_x)
        up = 1 - math.log10(max(fnir, low_y)) / math.log10(low_y)
        x = LEFT + right * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)
        return round(x), round(y)

    for rate in _ticks(low_x):
        x, _ = at(rate, 1)
        draw.line([(x, TOP), (x, HEIGHT - BOTTOM)], fill=GRID)
        draw.text((x, HEIGHT - BOTTOM + 8), _share(rate), fill=INK, font=font, anchor="ma")
    for rate in _ticks(low_y):
        _, y = at(1, rate)
        draw.line([(LEFT, y), (WIDTH - RIGHT, y)], fill=GRID)
        draw.text((LEFT - 8, y), _share(rate), fill=INK, font=font, anchor="rm")
    draw.rectangle([LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM], outline=INK)
    draw.line([at(p["fpir"], p["fnir"]) for p in result["det"]], fill=LINE, width=3)
    for row in result["errors"]:
        if row["fpir"] > 0:
            x, y = at(row["fpir"], row["fnir"])
            draw.ellipse([x - 5, y - 5, x + 5, y + 5], fill=MARK)
    draw.text((WIDTH // 2, 14), title, fill=INK, font=font, anchor="ma")
    below = f"FPIR: strangers given a name ({result['strangers']} people)"
    draw.text((WIDTH // 2, HEIGHT - 34), below, fill=INK, font=font, anchor="ma")
    beside = f"FNIR: known people missed ({result['gallery_people']} enrolled)"
    draw.text((LEFT, TOP - 8), beside, fill=INK, font=font, anchor="ls")
    return image


def _ticks(low: float) -> list[float]:
    """Return the powers of ten from `low` to 1."""
    return [10.0**k for k in range(round(math.log10(low)), 1)]


def _decade(rates: Sequence[float]) -> float:
    """Return the power of ten below the smallest rate above 0, at most a tenth."""
    smallest = min((rate for rate in rates if rate > 0), default=FLOOR)
    return float(10.0 ** min(-1, math.floor(math.log10(smallest))))


def _share(rate: float) -> str:
    return f"{100 * rate:g} %"
