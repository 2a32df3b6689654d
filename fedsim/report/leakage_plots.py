"""The plots of what leakage measures found; each returns an <svg> for the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from fedsim.leakage import roc
from fedsim.privacy.claims import Claim, rounded_up
from fedsim.report.facts import NEVER_SEEN_BITS
from fedsim.report.leakage_rows import Row
from fedsim.report.leakage_words import of_whom, pairs_of, unit_of, value
from fedsim.report.svg import (
    COLOURS,
    STEPS,
    Curves,
    house_style,
    label_ends,
    panel,
    series,
    to_svg,
)

# Never by colour alone: each line has its style too.
LINES: Sequence[tuple[str, Any]] = (
    ("federated", "-"), ("trigram", (0, (5, 2))), ("central", (0, (1.5, 1.5))),
    ("seq-3", "-."), ("other", (0, (3, 1.5, 1, 1.5))), ("seq-1", (0, (8, 2))),
)  # fmt: skip
PALEST, STRONGEST = 0.12, 0.38  # of a heat map's cells: ink stays readable on all of them
SCALE_BITS = 10.0  # that a heat map's scale reaches at least: a thousandfold of chance
LEAST_RATE = 1e-3  # where a ROC's axes begin
LABELS = 150.0  # points for the names at the left of a dot plot
Cells = Mapping[tuple[int, int], Row]


# -- canaries --------------------------------------------------------------------------------


def cells_of(rows: Sequence[Row], quantity: str, method: str = "") -> dict[tuple[int, int], Row]:
    """The rows of a quantity by (users, copies)."""
    out = {}
    for row in rows:
        held = {key: text for key, _, text in pairs_of(row.group)}
        numbers = [held.get("users", ""), held.get("repeats", "")]
        same = row.quantity == quantity and held.get("method", "") == method
        if same and row.known and all(text.isdigit() for text in numbers):
            out[int(numbers[0]), int(numbers[1])] = row
    return out


def exposure_heat(title: str, cells: Cells, extracted: Cells, most: float, salt: str) -> Markup:
    """Mean exposure by users (down) and copies (across), the values in the cells."""
    users, copies = (sorted({key[i] for key in cells}) for i in (0, 1))
    with house_style(f"heat-{salt}"):
        height = 74 + 40.0 * len(users)
        figure, axes = panel(title, "copies each", 400, height, right=12)
        for (u, c), row in cells.items():
            x, y = copies.index(c), len(users) - 1 - users.index(u)
            _cell(axes, x, y, (row.estimate - NEVER_SEEN_BITS) / (most - NEVER_SEEN_BITS))
            axes.text(x, y, f"{row.estimate:.1f}", ha="center", va="center", weight="bold")
            out = extracted.get((u, c))
            if out is not None:
                axes.annotate(
                    f"{round_of(out)} of {out.n} out", (x, y), (0, -13), ha="center", va="center",
                    textcoords="offset points", fontsize=9,
                )  # fmt: skip
        axes.set_xlim(-0.5, len(copies) - 0.5)
        axes.set_ylim(-0.55, len(users) - 0.5)
        axes.set_xticks(range(len(copies)), [f"{c:,}" for c in copies])
        axes.set_yticks(range(len(users)), [f"{u:,} user{'s' * (u > 1)}" for u in users[::-1]])
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        return to_svg(figure, f"{title}, by users and copies of each canary")


def round_of(row: Row) -> int:
    """How many of a share's n there were."""
    return round(row.estimate * row.n)


def _cell(axes: Axes, x: float, y: float, share: float) -> None:
    step = min(STEPS - 1, max(0, int(share * STEPS)))
    alpha = PALEST + (STRONGEST - PALEST) * step / (STEPS - 1)
    axes.add_patch(Rectangle((x - 0.48, y - 0.47), 0.96, 0.94, color=COLOURS[f"seq-{step}"],
                             alpha=alpha, linewidth=0))  # fmt: skip


# -- membership ------------------------------------------------------------------------------


def roc_curves(curves: pd.DataFrame, ceiling: Claim | None) -> list[Markup]:
    """A panel for each kind of attack: true against false positives, both logarithmic.

    curves: columns score, fpr, tpr. ceiling: what users were promised, where they were.
    """
    kinds: dict[str, list[str]] = {}
    for name in curves["score"].unique():
        key, _, _ = next(iter(pairs_of(name)), ("", "", ""))
        kind = name.split(" ")[0] if key in ("text", "level") else ""
        kinds.setdefault(kind, []).append(name)
    return [_roc(curves, kind, names, ceiling) for kind, names in kinds.items()]


def _roc(curves: pd.DataFrame, kind: str, names: Sequence[str], ceiling: Claim | None) -> Markup:
    title = "members named (TPR)" + (f": {of_whom(kind)}" if kind else "")
    with house_style(f"roc-{kind}"):
        height = 300 + 16.0 * (2 + len(names))
        figure, axes = panel(title, "strangers named by mistake (FPR)", 400, height, right=22)
        box, below = axes.get_position(), 16.0 * (2 + len(names)) / height
        axes.set_position((box.x0, box.y0 + below, box.width, box.height - below))
        rates = np.geomspace(LEAST_RATE, 1, 200)
        axes.plot(rates, rates, color=COLOURS["muted"], linewidth=1, label="guessing")
        if ceiling is not None:
            promised = ceiling.epsilon, ceiling.delta
            allowed = [roc.most_tpr(float(rate), *promised) for rate in rates]
            told = f"most that epsilon = {rounded_up(ceiling.epsilon)} allows"
            axes.plot(rates, allowed, color=COLOURS["ink"], linewidth=1.2, linestyle=(0, (1, 2)),
                      label=told)  # fmt: skip
        for (colour, style), name in zip(LINES, names, strict=False):
            points = curves[(curves["score"] == name) & (curves["fpr"] > 0) & (curves["tpr"] > 0)]
            label = of_whom(name.removeprefix(kind).strip())
            axes.plot(points["fpr"], points["tpr"], color=COLOURS[colour], linestyle=style,
                      linewidth=1.4, label=label)  # fmt: skip
        axes.set(xscale="log", yscale="log", xlim=(LEAST_RATE, 1), ylim=(LEAST_RATE, 1.08))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g} %"))
            axis.set_minor_locator(NullLocator())
        axes.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.17), fontsize=10.5,
                    handlelength=2.8, labelspacing=0.2, borderpad=0)  # fmt: skip
        return to_svg(figure, f"ROC curves on logarithmic axes {of_whom(kind)}".strip())


# -- dots with intervals ---------------------------------------------------------------------


def dots(
    title: str, x_label: str, rows: Sequence[tuple[str, Row]], *, scale: float, salt: str
) -> Markup:
    """Each row's estimate with its interval, the control as a short stroke."""
    with house_style(f"dots-{salt}"):
        height = 78 + 22.0 * len(rows)
        figure, axes = panel(title, x_label, 400, height)
        left = LABELS / 400
        box = axes.get_position()
        axes.set_position((left, box.y0, 0.97 - left, box.height))
        axes.set_title(title, x=-left / (0.97 - left), pad=10)
        for y, (_, row) in enumerate(rows):
            place = len(rows) - 1 - y
            ends = [row.estimate if math.isnan(end) else end for end in (row.low, row.high)]
            if unit_of(row.quantity) == "share":
                ends = [min(1.0, max(0.0, end)) for end in ends]
            axes.plot([scale * e for e in ends], [place, place], color=COLOURS["federated"])
            axes.plot(scale * row.estimate, place, "o", color=COLOURS["federated"], ms=5.5)
            axes.plot(scale * row.control, place, "|", color=COLOURS["ink"], ms=12, mew=1.6)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows[::-1]], color=COLOURS["ink"])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if scale == 100 and max(axes.get_xlim()) > 50:
            axes.set_xlim(-2, 102)
        else:
            axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
        named = "; ".join(f"{name} {value(row.quantity, row.estimate)}" for name, row in rows)
        return to_svg(figure, f"{title}: {named}")


def defences(rows: Sequence[Row]) -> Iterator[Markup]:
    """What the server reads at the run's model, by what stands between it and the update."""
    wanted = (
        ("token_precision", "attack=embedding-rows", "of the words it names, typed ones, %"),
        ("sentences_exact", "attack=span", "sentences read word for word, %"),
    )
    for quantity, attack, title in wanted:
        found = []
        for row in rows:
            ours = row.quantity == quantity and row.known and row.group.startswith(attack)
            if ours and "model=run" in row.group and "words=any" not in row.group:
                found.append((_situation(row.group), row))
        if found:
            yield dots(title, "%; stroke: by chance", found, scale=100, salt=f"updates-{quantity}")


def _situation(group: str) -> str:
    """The defence, or the local steps, in a few words."""
    held = {key: text for key, _, text in pairs_of(group)}
    name = held.get("defence", "")
    if name == "none":
        return f"FedAvg, {held['steps']} step{'s' * (held['steps'] != '1')}" if "steps" in held \
            else "none (FedSGD)"  # fmt: skip
    if name == "secure-sum":
        return f"sum of {held.get('users', '?')} users"
    if "cohort" in held:
        return f"{name} z={held.get('z', '?')}, cohort {held['cohort']}"
    return f"{name} of {held['deviation']}" if "deviation" in held else name


def copies(rows: Sequence[Row]) -> Iterator[Markup]:
    """Exposure, extraction and recall of the model and its compressed copies."""
    wanted = (
        ("exposure_bits", "mean exposure of canaries, bits", "bits; stroke: unseen", 1.0),
        ("extracted", "canaries that can be extracted, %", "%; stroke: unseen", 100.0),
        ("top1_recall", "top-1 recall on test users, %", "%", 100.0),
    )
    for quantity, title, x_label, scale in wanted:
        found = [(_copy(r.group), r) for r in rows if r.quantity == quantity and r.known]
        if len(found) > 1:
            yield dots(title, x_label, found, scale=scale, salt=f"copies-{quantity}")


def _copy(group: str) -> str:
    """A copy in the few words that an axis has room for."""
    held = {key: text for key, _, text in pairs_of(group)}
    if held.get("copy", "none") == "none":
        return of_whom(group)
    return " ".join([held["copy"], *(held[key] for key in ("sparsity", "width") if key in held)])


# -- epsilon ---------------------------------------------------------------------------------


def epsilons(rows: Sequence[Row]) -> Markup | None:
    """What is proven as a line; lower bounds as arrows that go on, estimates as open marks."""
    shown = [r for r in rows if r.quantity in ("epsilon_lower_bound", "epsilon_estimate")]
    shown = [r for r in shown if r.known]
    proven = next((r for r in rows if r.quantity == "epsilon_proven" and r.known), None)
    if not shown:
        return None
    with house_style("epsilons"):
        figure, axes = panel("epsilon: proven and attacked", "epsilon", 400, 92 + 24 * len(shown))
        left = LABELS / 400
        box = axes.get_position()
        axes.set_position((left, box.y0, 0.97 - left, box.height))
        axes.set_title("epsilon: proven and attacked", x=-left / (0.97 - left), pad=22)
        most = max([r.estimate for r in shown] + ([proven.estimate] if proven else [])) or 1.0
        for y, row in enumerate(shown[::-1]):
            if row.quantity == "epsilon_estimate":
                axes.plot(row.estimate, y, "D", color=COLOURS["trigram"], mfc="none", ms=6)
                continue
            axes.annotate(
                "", (row.estimate + 0.09 * most, y), (row.estimate, y),
                arrowprops={"arrowstyle": "->", "color": COLOURS["federated"], "linewidth": 1.6},
            )  # fmt: skip
            axes.plot(row.estimate, y, "|", color=COLOURS["federated"], ms=12, mew=2)
        if proven is not None:
            axes.axvline(proven.estimate, color=COLOURS["ink"], linewidth=1.4)
            axes.annotate(f"proven {proven.estimate:.3g}", (proven.estimate, 1), (0, 4), ha="right",
                          xycoords=("data", "axes fraction"),
                          textcoords="offset points")  # fmt: skip
        names = [_method(row.group) for row in shown[::-1]]
        axes.set_yticks(range(len(shown)), names, color=COLOURS["ink"])
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_xlim(-0.03 * most, 1.15 * most)
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        return to_svg(figure, "Epsilon that is proven, beside lower bounds of attacks")


def _method(group: str) -> str:
    """How an epsilon was found, in the few words that an axis has room for."""
    held = {key: text for key, _, text in pairs_of(group)}
    if "method" not in held:
        return of_whom(group)
    return held["method"] + (f" ({held['deviation']})" if "deviation" in held else "")


# -- over rounds -----------------------------------------------------------------------------


def by_round(name: str, lines: Sequence[tuple[int, Row]]) -> Markup:
    """One quantity over the rounds that were audited, with its intervals and its control."""
    rows = [row for _, row in lines]
    rounds = [round for round, _ in lines]
    scale = 100.0 if unit_of(rows[0].quantity) in ("share", "points") else 1.0
    with house_style(f"rounds-{name}"):
        unit = {"bits": ", bits", "share": ", %", "points": ", points"}
        title = f"{name}{unit.get(unit_of(rows[0].quantity), '')}"
        figure, axes = panel(title, "round", 400, 220, right=62)
        low, high, estimates = (
            np.array([getattr(row, which) for row in rows]) * scale
            for which in ("low", "high", "estimate")
        )
        colour = COLOURS["federated"]
        axes.fill_between(rounds, low, high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(rounds, estimates, "-o", color=colour)
        controls = np.array([row.control for row in rows]) * scale
        labels = [(float(estimates[-1]), "measured", colour)]
        if np.isfinite(controls).any():
            axes.plot(rounds, controls, ":", color=COLOURS["ink"], linewidth=1.2)
            labels.append((float(controls[-1]), "control", COLOURS["ink"]))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        label_ends(axes, labels)
        quantity, named = rows[0].quantity, {"measured": estimates, "control": controls}
        read = Curves(
            axes,
            {which: series(rounds, values / scale) for which, values in named.items()},
            lambda round: f"round {round:,.0f}",
            lambda x: value(quantity, x),
        )
        return to_svg(figure, f"{title}, by round", read)
