"""Numbers as text, with as many digits as they carry.

The 95 % interval of a percentile needs no distribution: it lies between two of the sorted samples,
whose ranks follow from the binomial distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cstl_edge.measure.stats import percentile

MOST_DIGITS = 3
LEAST_DIGITS = 2  # and where no interval tells how sure a figure is
UNKNOWN_ERROR = 0.1  # of a figure without an interval, as a share of it


@dataclass(frozen=True)
class Quantile:
    """A percentile and its 95 % interval; an end is None where so few samples set no bound."""

    value: float
    low: float | None
    high: float | None

    @property
    def relative_error(self) -> float:
        """Return half the interval as a share of the value; UNKNOWN_ERROR where there is none."""
        if self.low is None or self.high is None or not self.value:
            return UNKNOWN_ERROR
        return (self.high - self.low) / 2 / self.value

    def __str__(self) -> str:  # with the digits that the interval allows
        return number(self.value, self.value * self.relative_error)


def quantile(samples: Sequence[float], q: float) -> Quantile:
    """Return the `q`-th percentile of at least one sample, with its interval.

    >>> quantile([4.0, 1.0, 3.0, 2.0], 50)
    Quantile(value=2.0, low=None, high=None)
    """
    ordered = sorted(samples)
    low, high = _ranks(len(ordered), q)
    return Quantile(
        percentile(ordered, q),
        ordered[low - 1] if low >= 1 else None,
        ordered[high - 1] if high <= len(ordered) else None,
    )


@lru_cache(maxsize=1024)
def _ranks(count: int, q: float) -> tuple[int, int]:
    """Return the ranks, from 1, between which the percentile lies with at least 95 %."""
    from scipy.stats import binom

    low, high = binom.ppf((0.025, 0.975), count, q / 100)
    return int(low), int(high) + 1


def number(value: float, error: float | None = None, digits: int = MOST_DIGITS) -> str:
    """Return a number with two to `digits` digits, the third only where its error allows.

    Args:
        value: The number.
        error: Half of its interval, in the same unit; None where it is not known.
        digits: Largest number of digits.

    >>> number(1.8342), number(1.8342, 0.05), number(1.8342, 0.3), number(12345)
    ('1.83', '1.83', '1.8', '12,300')
    """
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    finest = _exponent(value) - digits + 1
    if error:
        finest = min(max(finest, _exponent(error)), _exponent(value) - LEAST_DIGITS + 1)
    shown = round(value, -finest)
    if shown and _exponent(shown) > _exponent(value) and not error:
        finest += 1  # 9.996 is 10.0, not 10.00
    if finest < -6:
        return f"{value:.{digits - 1}e}"
    return f"{shown:,.{max(0, -finest)}f}"


def percent(share: float, error: float | None = None) -> str:
    """Return a share of 0..1 in percent, at most one decimal.

    >>> percent(0.8134), percent(0.8134, 0.04), percent(1.0)
    ('81.3 %', '81 %', '100.0 %')
    """
    coarse = error is not None and error >= 0.01
    return f"{100 * share:.{0 if coarse else 1}f} %"


def whole(value: float) -> str:
    """Return a whole number with separated thousands.

    >>> whole(5485.0)
    '5,485'
    """
    return f"{round(value):,}"


def _exponent(value: float) -> int:
    return math.floor(math.log10(abs(value)))
