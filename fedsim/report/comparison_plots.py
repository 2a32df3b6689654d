"""The plots of a comparison; each returns an <svg> for the page, strategies labelled directly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from fedsim.leakage.intervals import mean_interval
from fedsim.report.comparison_cells import (
    SCORES,
    Cells,
    Measure,
    Setting,
    half_width,
    value_of,
)  # fmt: skip
from fedsim.report.formats import MISSING, size
from fedsim.report.svg import COLOURS, house_style, panel, spread, to_svg

# Never by colour alone: a strategy has its line style and its mark too. More than these share a
# look, so that a panel of lines never holds more.
LOOKS: tuple[tuple[str, Any, str], ...] = (
    ("line-0", "-", "o"), ("line-1", (0, (5, 2)), "s"), ("line-2", (0, (1.5, 1.5)), "^"),
    ("line-3", "-.", "D"), ("line-4", (0, (8, 2)), "v"), ("line-5", (0, (3, 1.5, 1, 1.5)), "P"),
    ("line-6", (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5)), "X"), ("line-7", (0, (2, 3)), "p"),
)  # fmt: skip
WIDTH = 356.0
LETTER = 6.6  # points, of a label's usual letter
MARKS = 6  # along a curve


def look(cells: Cells, name: str) -> tuple[str, Any, str]:
    """A strategy's colour, line style and mark, the same in all plots."""
    colour, line, mark = LOOKS[cells.comparison.strategies.index(name) % len(LOOKS)]
    return COLOURS[colour], line, mark


# -- curves ----------------------------------------------------------------------------------


def learning(cells: Cells, against: str) -> Iterator[Markup]:
    """Validation top-1 by `against` ("round" or "upload_bytes"): mean and band over seeds."""
    curves = _means(cells)
    if curves.empty:
        return
    limits = _limits(curves)
    for setting in cells.settings:
        for names in _panels_of(cells.comparison.strategies):
            yield _curves(cells, curves, setting, names, against, limits)


def _means(cells: Cells) -> pd.DataFrame:
    keys, curves = ["strategy", *cells.comparison.axes, "round"], cells.comparison.curves
    rows = []
    for key, group in curves.groupby(keys, sort=True) if len(curves) else ():
        mean, low, high = mean_interval(100 * group["top1"].dropna().to_numpy(np.float64))
        rows.append((*key, mean, low, high, group["upload_bytes"].mean()))
    return pd.DataFrame(rows, columns=[*keys, "mean", "low", "high", "upload_bytes"])


def _limits(curves: pd.DataFrame) -> tuple[float, float]:
    """The same for all panels: every curve's end is in it, the steep begin may be not."""
    ends = curves.groupby(list(curves.columns[: curves.columns.get_loc("round")]))["mean"].last()
    low = min(float(curves["mean"].quantile(0.12)), float(ends.min()))
    high = float(curves["mean"].max())
    room = 0.08 * (high - low) or 1.0
    return max(0.0, low - room), high + room


def _curves(
    cells: Cells, curves: pd.DataFrame, setting: Setting, names: Sequence[str], against: str,
    limits: tuple[float, float],
) -> Markup:  # fmt: skip
    mine = curves
    for axis, value in zip(cells.comparison.axes, setting, strict=True):
        mine = mine[mine[axis] == value]
    x_label = "round" if against == "round" else "uploaded by all clients so far"
    title = "validation top-1, %"
    with house_style(f"{against}-{setting}-{names[0]}"):
        figure, axes = framed(title, cells.named(setting), x_label, 250, 46, _room(names))
        axes.set_ylim(*limits)
        target = cells.comparison.target
        if target is not None:
            axes.axhline(100 * target, color=COLOURS["muted"], linestyle=":", linewidth=1.2)
        labels = []
        for place, name in enumerate(names):
            line = mine[(mine["strategy"] == name) & (mine[against] > 0)]
            if line.empty:
                labels.append((limits[0], f"{name}: failed", COLOURS["muted"], math.nan))
                continue
            colour, style, mark = look(cells, name)
            step = max(1, len(line) // MARKS)
            x, y = line[against].to_numpy(np.float64), line["mean"].to_numpy()
            axes.fill_between(x, line["low"], line["high"], color=colour, alpha=0.1, linewidth=0)
            axes.plot(x, y, color=colour, linestyle=style, marker=mark, linewidth=1.5,
                      markevery=(place * step // len(names) % max(1, len(line)), step))  # fmt: skip
            labels.append((float(y[-1]), name, colour, float(x[-1])))
        if against == "round":
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        else:
            bytes_axis(axes)
        _label(axes, labels)
        return to_svg(figure, f"{title} by {x_label} {cells.named(setting)}".strip())


def bytes_axis(axes: Axes) -> None:
    """Logarithmic, with sizes at round places, as many as there is room for."""
    axes.set_xscale("log")
    room = axes.get_position().width * WIDTH
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(_log_ticks(*axes.get_xlim(), room)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short_size(value)))


def _log_ticks(low: float, high: float, room: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    wanted = 7.5 * LETTER * math.log10(high / low) / room  # the width of a size, in decades
    steps = (1, 2, 5) if wanted < 0.3 else (1, 3) if wanted < 0.47 else (1,)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return [tick for tick in ticks if low <= tick <= high][:: max(1, math.ceil(wanted))]


def _short_size(value: float) -> str:
    return size(value).replace(".0 ", " ")


def _label(axes: Axes, labels: Sequence[tuple[float, str, str, float]]) -> None:
    """Names at the right edge, pushed apart, each with a thin line to its (y, text, colour, x)."""
    low, high = axes.get_ylim()
    height = axes.get_position().height * axes.figure.get_figheight() * 72  # type: ignore[union-attr]
    rows = sorted(labels, key=lambda row: row[0])
    wanted = [(min(max(y, low), high) - low) / (high - low) * height for y, *_ in rows]
    places = spread(wanted, 14, height)
    for (y, text, colour, x), place in zip(rows, places, strict=True):
        arrow = None
        if not math.isnan(x):
            arrow = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.7,
                     "shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5)}  # fmt: skip
        axes.annotate(
            text, (x, y) if arrow else (1, place / height),
            xycoords="data" if arrow else "axes fraction", xytext=(1.05, place / height),
            textcoords="axes fraction", va="center", color=colour, arrowprops=arrow,
            annotation_clip=False,
        )  # fmt: skip


# -- leakage ---------------------------------------------------------------------------------


def leakage(cells: Cells) -> Iterator[Markup]:
    """Each leakage figure over test top-1, a mark a strategy: right and below is better; no panel
    where nobody has the figure."""
    for column, measure in cells.leakage.items():
        for setting in cells.settings:
            known = set(cells.ranked(setting, column, measure))
            for names in _panels_of(cells.comparison.strategies):
                if known.isdisjoint(names):
                    continue
                yield _against_utility(cells, column, measure, setting, names)


def _against_utility(
    cells: Cells, column: str, measure: Measure, setting: Setting, names: Sequence[str]
) -> Markup:
    with house_style(f"{column}-{setting}-{names[0]}"):
        figure, axes = framed(measure.title, cells.named(setting), "top-1 on the test users, %",
                              250, 46, _room(names))  # fmt: skip
        labels = []
        for name in names:
            row, (colour, _, mark) = cells.row(name, setting), look(cells, name)
            x, y = 100 * value_of(row, "top1"), measure.scale * value_of(row, column)
            if math.isnan(x) or math.isnan(y):
                labels.append((-math.inf, f"{name}: {MISSING}", COLOURS["muted"], math.nan))
                continue
            axes.errorbar(x, y, _half(row, column, measure), _half(row, "top1", SCORES["top1"]),
                          color=colour, marker=mark, ms=6, elinewidth=0.8)  # fmt: skip
            labels.append((y, name, colour, x))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_ylim(bottom=max(axes.get_ylim()[0], -0.02 * axes.get_ylim()[1]))
        _label(axes, labels)
        return to_svg(figure, f"{measure.title} over test top-1 {cells.named(setting)}".strip())


def _half(row: dict[str, Any], column: str, measure: Measure) -> float:
    half = measure.scale * half_width(row, column)
    return 0.0 if math.isnan(half) else half


def _panels_of(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """As few and as equal parts as there are looks for."""
    parts = -(-len(names) // len(LOOKS))
    most = -(-len(names) // parts)
    return (names[i : i + most] for i in range(0, len(names), most))


def _room(names: Sequence[str]) -> float:
    """Points at the right for the names."""
    return 26 + LETTER * max(len(name) for name in names)


def framed(
    title: str, setting: str, x_label: str, height: float, left: float, right: float
) -> tuple[Figure, Axes]:
    """A panel whose title has the setting in a line of its own."""
    figure, axes = panel(title, x_label, WIDTH, height)
    top = 44 if setting else 28
    share = 1 - (left + right) / WIDTH
    axes.set_position((left / WIDTH, 44 / height, share, 1 - (44 + top) / height))
    text = f"{title}\n{setting}" if setting else title
    axes.set_title(text, x=-left / (WIDTH * share), pad=10, linespacing=1.3)
    return figure, axes
