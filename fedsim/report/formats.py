"""Numbers as text. A missing one is a dash, never a zero."""

from __future__ import annotations

import math
from typing import Any

from fedsim.report.intervals import Estimate

MISSING = "\u2013"
BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def missing(value: Any) -> bool:
    """True for None, NaN and pandas' NA."""
    return value is None or str(value) in {"nan", "<NA>", "NaT"}


def percent(value: Any, digits: int = 2) -> str:
    """0.1234 as 12.34 %."""
    return MISSING if missing(value) else f"{100 * float(value):.{digits}f} %"


def percent_interval(estimate: Estimate) -> str:
    """The half width of a recall's interval."""
    return "" if missing(estimate.half_width) else f"± {100 * estimate.half_width:.2f}"


def chance(probability: float) -> str:
    """A small probability as a share: 23 %, 2.3 %, < 0.1 %."""
    if missing(probability):
        return MISSING
    if probability < 1e-3:
        return "< 0.1 %"
    return f"{100 * probability:.{0 if probability >= 0.1 else 1}f} %"


def number(value: Any, digits: int = 1) -> str:
    """With thousands separators."""
    if missing(value):
        return MISSING
    return f"{float(value):,.{digits}f}" if math.isfinite(value) else "∞"


def with_ends(mean: float, low: float, high: float, digits: int = 1) -> str:
    """228.1 (221.6 to 234.9): a mean whose ends lie at other distances from it, such as a geometric
    one; alone where they are not known."""
    text = number(mean, digits)
    return text if missing(low) else f"{text} ({number(low, digits)} to {number(high, digits)})"


def whole(value: Any) -> str:
    """A whole number with thousands separators."""
    return MISSING if missing(value) else f"{int(value):,}"


def count(value: int, noun: str, plural: str = "") -> str:
    """3 users, 1 user."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def byte_unit(value: float) -> tuple[float, str]:
    """The divisor and the name of the decimal unit that suits a number of bytes."""
    power = min(int(math.log10(value) // 3), len(BYTE_UNITS) - 1) if value >= 1 else 0
    return 1000.0**power, BYTE_UNITS[power]


def size(value: Any) -> str:
    """Bytes in a decimal unit."""
    if missing(value):
        return MISSING
    divisor, unit = byte_unit(float(value))
    return f"{float(value) / divisor:.{1 if divisor > 1 else 0}f} {unit}"


def duration(seconds: float) -> str:
    """75 as 1 min 15 s."""
    whole_seconds = round(seconds)
    hours, rest = divmod(whole_seconds, 3600)
    minutes, last = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {last} s" if minutes else f"{seconds:.1f} s"
