"""Figures as inline SVG that takes the page's colours and fonts, so that it follows dark mode."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Drawn in these stand-ins, replaced by CSS variables afterwards: matplotlib knows no variables.
COLOURS = {
    "ink": "#010101",
    "muted": "#010102",
    "grid": "#010103",
    "federated": "#010104",
    "trigram": "#010105",
    "central": "#010106",
    "other": "#010107",
    "bar": "#010108",
    **{f"seq-{i}": f"#01020{i}" for i in range(5)},
    **{f"line-{i}": f"#01030{i}" for i in range(8)},
}
STEPS = 5
MOST_PLACES = 200  # along a curve whose values can be read
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # text of users may hold a dollar sign
    "font.family": ["DejaVu Sans"],  # ships with matplotlib: the same layout everywhere
    "font.size": 11.5,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": COLOURS["ink"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.edgecolor": COLOURS["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.8,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "legend.frameon": False,
}


@contextmanager
def house_style(salt: str) -> Iterator[None]:
    """Our settings alone, whatever a user's matplotlibrc says; `salt` keeps ids apart."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**STYLE, "svg.hashsalt": salt})
        yield


def panel(
    title: str, x_label: str, width: float = 400, height: float = 240, right: float = 12
) -> tuple[Figure, Axes]:
    """A figure with one axes, sizes in points; `right` leaves room for direct labels."""
    figure = Figure(figsize=(width / 72, height / 72))
    left, bottom, top = 46, 44, 28
    axes = figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    )
    axes.set_title(title, x=-left / (width - left - right), pad=10)
    axes.set_xlabel(x_label)
    return figure, axes


def label_ends(axes: Axes, labels: Iterable[tuple[float, str, str]], gap: float = 14) -> None:
    """Names at the right edge, at the height of (y, text, colour), pushed apart where they meet."""
    rows = sorted((row for row in labels if np.isfinite(row[0])), key=lambda row: row[0])
    if not rows:
        return
    low, high = axes.get_ylim()
    height = axes.get_position().height * axes.figure.get_figheight() * 72  # type: ignore[union-attr]
    wanted = [(y - low) / (high - low) * height for y, _, _ in rows]
    for (_, text, colour), place in zip(rows, spread(wanted, gap, height), strict=True):
        axes.annotate(
            text,
            (1, place / height),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
        )


def spread(places: list[float], gap: float, top: float) -> list[float]:
    """Ascending places at least `gap` apart, as near to the given ones as the room allows."""
    out: list[float] = []
    for place in places:
        out.append(place if not out else max(place, out[-1] + gap))
    limit = top
    for i in reversed(range(len(out))):
        out[i] = min(out[i], limit)
        limit = out[i] - gap
    return out


@dataclass(frozen=True)
class Curves:
    """What is shown under the pointer: the values of some curves over the same axis.

    values: by curve, {place: value}; of and text put a place and a value into words.
    """

    axes: Axes
    values: Mapping[str, Mapping[float, float]]
    of: Callable[[float], str]
    text: Callable[[float], str]

    def as_json(self) -> str:
        """For the page's script, in the units of the SVG's view box."""
        places = sorted({x for curve in self.values.values() for x in curve})
        some = places[:: max(1, -(-len(places) // MOST_PLACES))]
        places = [*dict.fromkeys([*some, *places[-1:]])]
        figure = self.axes.get_figure(root=True)
        assert figure is not None
        width, height = (72 * side for side in figure.get_size_inches())
        box = self.axes.get_position()
        self.axes.get_xlim()  # settles the limits
        points = np.array([(x, 1.0) for x in places]).reshape(-1, 2)
        pixels = self.axes.transData.transform(points)[:, 0]
        scale = width / figure.bbox.width
        at = [
            [
                round(float(pixel * scale), 1),
                self.of(x),
                [[name, self.text(curve[x])] for name, curve in self.values.items() if x in curve],
            ]
            for pixel, x in zip(pixels, places, strict=True)
        ]
        ends = {"top": round((1 - box.y1) * height, 1), "bottom": round((1 - box.y0) * height, 1)}
        return json.dumps({**ends, "at": at}, ensure_ascii=False)


def series(places: Iterable[float], values: Iterable[float]) -> dict[float, float]:
    """What is known of a curve, for `Curves`."""
    pairs = zip(places, values, strict=True)
    return {float(x): float(y) for x, y in pairs if np.isfinite(y)}


def to_svg(figure: Figure, description: str, curves: Curves | None = None) -> Markup:
    """The figure as an <svg> element for the page; `description` is for who cannot see it, and
    the values of `curves` are for who points at one."""
    some = curves is not None and any(curves.values.values())
    hover = f' data-hover="{Markup.escape(curves.as_json())}"' if curves and some else ""
    text = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(text, metadata=metadata)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)  # the page has a font
    used = set(re.findall(r'#([\w.-]+)[")]', svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", svg)
    for name, stand_in in COLOURS.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    label = Markup.escape(description)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{label}"{hover}', 1))
