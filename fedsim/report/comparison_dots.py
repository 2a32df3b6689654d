"""The dot plots of a comparison: scores, fairness, and what it takes to the target."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from fedsim.report.comparison_cells import (
    SCORES,
    Cells,
    Measure,
    Setting,
    half_width,
    value_of,
    with_half,
)
from fedsim.report.comparison_leads import reached
from fedsim.report.comparison_plots import LETTER, bytes_axis, framed, look
from fedsim.report.formats import number, size
from fedsim.report.svg import COLOURS, house_style, to_svg

ROW = 24.0  # points
Format = Callable[[float], str]


class Dot(NamedTuple):
    """A row of a dot plot; NaN where there is nothing to draw, which `text` then says."""

    name: str
    text: str
    mean: float
    half: float
    seeds: np.ndarray
    hollow: float = math.nan  # a second mark, open


def final(cells: Cells) -> Iterator[Markup]:
    """Test top-1: mean and interval, the seeds as small marks."""
    title = "top-1 on the test users, %"
    x_label = "small strokes: single seeds" if len(cells.comparison.seeds) > 1 else ""
    yield from _dots(cells, title, x_label, lambda n, s: _score(cells, n, s, "top1"))


def fairness(cells: Cells) -> Iterator[Markup]:
    """Top-1 over all test users beside that of the tenth that has least."""
    measure, other = SCORES["top1"], SCORES["worst_decile_top1"]

    def dot(name: str, setting: Setting) -> Dot:
        row = cells.row(name, setting)
        worst = value_of(row, "worst_decile_top1") * other.scale
        text = f"{number(worst, 2)} / {number(value_of(row, 'top1') * measure.scale, 2)}"
        return Dot(name, text if row else "failed", value_of(row, "top1") * measure.scale, math.nan,
                   np.array([]), worst)  # fmt: skip

    title = "top-1 on the test users, %"
    yield from _dots(cells, title, "open: worst tenth of users; filled: all", dot, joined=True)


def rounds_to_target(cells: Cells) -> Iterator[Markup]:
    """Rounds to the target, over the runs that got there."""

    def dot(name: str, setting: Setting) -> Dot:
        measure = Measure("rounds", "", 1, 1)
        return _cost(cells, name, setting, "rounds_to_target", measure, lambda v: number(v, 0))

    yield from _dots(cells, "rounds to the target", "rounds", dot, zero=True)


def bytes_to_target(cells: Cells) -> Iterator[Markup]:
    """Bytes to the target, up and then down, on logarithmic axes."""
    for column, way in (("bytes_to_target", "uploaded"), ("download_to_target", "downloaded")):
        dot = partial(_cost, cells, column=column, measure=Measure("bytes"), form=size)
        yield from _dots(cells, f"{way} until the target", "bytes, all clients", dot, log=True)


def _cost(
    cells: Cells, name: str, setting: Setting, column: str, measure: Measure, form: Format
) -> Dot:
    got, asked = reached(cells, name, setting)
    found = _score(cells, name, setting, column, measure)
    if not asked:
        return found
    if got == asked:
        return found._replace(text=form(found.mean))
    return found._replace(text=f"{got} of {asked} runs" if got else "never", mean=math.nan)


def _score(
    cells: Cells, name: str, setting: Setting, column: str, measure: Measure | None = None
) -> Dot:
    measure = measure or SCORES[column]
    row = cells.row(name, setting)
    seeds = measure.scale * cells.values(name, setting, column).to_numpy()
    text = with_half(row, column, measure) if row else "failed"
    half = measure.scale * half_width(row, column)
    return Dot(name, text, measure.scale * value_of(row, column), half, seeds)


def _dots(
    cells: Cells, title: str, x_label: str, dot: Callable[[str, Setting], Dot], *,
    joined: bool = False, zero: bool = False, log: bool = False,
) -> Iterator[Markup]:  # fmt: skip
    """A panel a setting, a row a strategy, all on the same axis."""
    rows = {s: [dot(name, s) for name in cells.comparison.strategies] for s in cells.settings}
    if not cells.comparison.axes:  # with them the order would differ from panel to panel
        sign = 1 if zero or log else -1  # of costs the lowest is on top
        for own in rows.values():
            own.sort(key=lambda d: math.inf if math.isnan(d.mean) else sign * d.mean)
    limits = _span([d for own in rows.values() for d in own], zero, log)
    if limits is None:
        return
    for setting, own in rows.items():
        yield _dot_panel(cells, title, cells.named(setting), x_label, own, limits, joined, log)


def _span(dots: Sequence[Dot], zero: bool, log: bool) -> tuple[float, float] | None:
    """What all marks need; intervals that are far wider than the marks are cut off."""
    marks = np.concatenate([[d.mean, d.hollow, *d.seeds] for d in dots])
    marks = marks[np.isfinite(marks)]
    if not len(marks):
        return None
    low, high = float(marks.min()), float(marks.max())
    if log:
        return low / 1.25, high * 1.25
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    for d in dots:
        if math.isfinite(d.half):
            low = max(min(low, d.mean - d.half), float(marks.min()) - 6 * room)
            high = min(max(high, d.mean + d.half), float(marks.max()) + 6 * room)
    return (0.0 if zero else low - room), high + room


def _dot_panel(
    cells: Cells, title: str, setting: str, x_label: str, dots: Sequence[Dot],
    limits: tuple[float, float], joined: bool, log: bool,
) -> Markup:  # fmt: skip
    with house_style(f"{title}-{setting}"):
        left = 12 + LETTER * max(len(d.name) for d in dots)
        right = 14 + LETTER * max(len(d.text) for d in dots)
        height = 80 + ROW * len(dots) + (16 if setting else 0)
        figure, axes = framed(title, setting, x_label, height, left, right)
        axes.set_xlim(*limits)
        if log:
            bytes_axis(axes)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_ylim(-0.6, len(dots) - 0.4)
        for y, d in enumerate(dots[::-1]):
            colour, _, mark = look(cells, d.name)
            ends = (d.hollow, d.mean) if joined else (d.mean - d.half, d.mean + d.half)
            axes.plot(ends, (y, y), color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot(d.seeds, np.full(len(d.seeds), y - 0.3), "|", color=colour, ms=6, mew=1.2)
            axes.plot(d.mean, y, mark, color=colour, ms=6)
            axes.plot(d.hollow, y, mark, color=colour, ms=6, mfc="none", mew=1.4)
            axes.annotate(d.text, (1, y), (8, 0), xycoords=("axes fraction", "data"),
                          textcoords="offset points", va="center",
                          color=COLOURS["muted" if math.isnan(d.mean) else "ink"])  # fmt: skip
        axes.set_yticks(range(len(dots)), [d.name for d in dots[::-1]], color=COLOURS["ink"])
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        told = "; ".join(f"{d.name} {d.text}" for d in dots)
        return to_svg(figure, f"{title} {setting}".strip() + f": {told}")
