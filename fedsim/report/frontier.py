"""The privacy study as a page, as a Markdown table for a paper, and as CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from fedsim.files import write_atomically
from fedsim.privacy.claims import NOTHING, THEOREMS, Claim, rounded_up, together
from fedsim.report.formats import MISSING, missing, number, percent, with_ends
from fedsim.report.study_page import Section, study_page
from fedsim.report.svg import COLOURS, house_style, label_ends, panel, to_svg
from fedsim.studies.frontier_results import claims, composed

# Never by colour alone: every mechanism has its mark and its line style too.
CAPTION = (
    "Intervals are 95 %, over seeds, Student's t; of perplexity the geometric mean is given with "
    "its interval (low to high), made on logarithms."
)
LOOKS: tuple[tuple[str, Any, str], ...] = (
    ("federated", "-", "o"),
    ("trigram", (0, (5, 2)), "s"),
    ("central", (0, (1.5, 1.5)), "^"),
    ("other", "-.", "D"),
)
SETTINGS = {
    "sampler": "sampler",
    "adjacency": "adjacency",
    "clip_norm": "clip norm",
    "server_lr": "server lr",
    "noise_multiplier": "noise multiplier",
    "noise_deviation": "noise on the mean",
    "delta": "delta",
}
TOGETHER = dict(zip(THEOREMS, ("epsilon, search included", "epsilon, all seeds"), strict=True))


def write_frontier(
    folder: Path, rows: pd.DataFrame, points: pd.DataFrame, needed: pd.DataFrame,
    findings: Sequence[str],
) -> Path:  # fmt: skip
    """Write `runs.csv`, `frontier.csv`, `users.csv`, `frontier.md` and `frontier.html`."""
    for name, table in (("runs", rows), ("frontier", points), ("users", needed)):
        write_atomically(folder / f"{name}.csv", table.to_csv(index=False).encode())
    write_atomically(folder / "frontier.md", markdown(points, findings).encode())
    path = folder / "frontier.html"
    write_atomically(path, _page(points, needed, findings).encode())
    return path


def markdown(points: pd.DataFrame, findings: Sequence[str]) -> str:
    """One row a mechanism and budget, with intervals, and what a reader must know of them."""
    header = ["mechanism", "epsilon", "top-1", "top-3", "perplexity", "mean sampled exposure",
              "extracted", *SETTINGS.values(), *TOGETHER.values()]  # fmt: skip
    lines = [header, ["---"] * len(header), *_cells(points)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    told = [*claims(points), *composed(points)]
    said = [sentence for sentence in told if sentence not in findings]
    return f"{table}\n\n{' '.join([*said, CAPTION, *findings])}\n"


def _cells(points: pd.DataFrame) -> list[list[str]]:
    out = []
    for row in points.to_dict("records"):
        claim = Claim.of_row(row)
        cells = [str(row["mechanism"]), claim.short if claim else NOTHING]
        cells += [_score(row, name, 100, 2) for name in ("top1_recall", "top3_recall")]
        mean, low, high = (row[f"perplexity{end}"] for end in ("", "_low", "_high"))
        cells.append(with_ends(mean, low, high))
        cells.append(_score(row, "exposure_mean", 1, 1))
        cells.append(percent(row["extracted"], 0))
        cells += [_setting(row[name], name) for name in SETTINGS]
        cells += [together(claim, row, name).short if claim else NOTHING for name in TOGETHER]
        out.append(cells)
    return out


def _in_lines(rows: list[list[str]]) -> list[list[str]]:
    """The epsilons, with for whom they hold, in as many lines as they take."""
    text, last = Markup('<div class="text">{}</div>'), len(TOGETHER)
    return [
        [name, text.format(one), *rest[:-last], *(text.format(more) for more in rest[-last:])]
        for name, one, *rest in rows
    ]


def _budget(epsilon: float) -> str:
    return "∞" if math.isinf(epsilon) else f"{epsilon:g}"


def _score(row: dict[str, Any], name: str, scale: float, digits: int) -> str:
    half = (row[f"{name}_high"] - row[f"{name}_low"]) / 2
    text = number(scale * row[name], digits)
    return text if missing(half) else f"{text} ± {scale * half:.{digits}f}"


def _setting(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value or MISSING
    if missing(value):
        return MISSING
    if name == "delta":
        return rounded_up(value, 3)  # as below the table
    return "∞" if math.isinf(value) else f"{value:.4g}"


def _curve(points: pd.DataFrame, score: str, title: str, scale: float) -> Markup:
    budgets = sorted(points.epsilon.unique())
    places = {budget: place for place, budget in enumerate(budgets)}
    with house_style(score):
        figure, axes = panel(title, "epsilon", right=92)
        labels = []
        for look, (name, group) in zip(
            LOOKS * 3, points.groupby("mechanism", sort=False), strict=False
        ):
            ordered = group.sort_values("epsilon")
            x = ordered.epsilon.map(places).to_numpy(np.float64)
            y, colour = scale * ordered[score], COLOURS[look[0]]
            axes.errorbar(x, y, _reach(ordered, score, scale), color=colour, linestyle=look[1],
                          marker=look[2], capsize=2)  # fmt: skip
            labels.append((float(y.iloc[-1]), str(name), colour))
        axes.set_xticks(range(len(budgets)), [_budget(budget) for budget in budgets])
        label_ends(axes, labels)
        return to_svg(figure, f"{title} by epsilon, one line a mechanism")


def _reach(points: pd.DataFrame, score: str, scale: float) -> np.ndarray:
    """(2, n) how far the intervals reach below and above the means; 0 where there is none."""
    below, above = points[score] - points[f"{score}_low"], points[f"{score}_high"] - points[score]
    reach = scale * np.array([below, above])
    return np.where(np.isfinite(reach), reach, 0.0)


def _page(points: pd.DataFrame, needed: pd.DataFrame, findings: Sequence[str]) -> str:
    plots = [
        _curve(points, "top1_recall", "top-1 recall on unseen users, %", 100),
        _curve(points, "perplexity", "perplexity", 1),
        _curve(points, "exposure_mean", "mean sampled exposure of the trained canaries, bits", 1),
        _curve(points, "extracted", "trained canaries extracted, %", 100),
    ]
    users = [
        [str(row["mechanism"]), _budget(row["trained at"]), percent(row["top1_recall"])]
        + [number(value, 0) for name, value in row.items() if name not in _NOT_USERS]
        for row in needed.to_dict("records")
    ]
    told = [*claims(points), *composed(points)]
    findings, said = [one for one in findings if one not in told], " ".join(told)
    budgets = [f"users for epsilon {n}" for n in needed.columns if n not in _NOT_USERS]
    header = ["mechanism", "epsilon", "top-1, %", "top-3, %", "perplexity", "mean sampled exposure",
              "extracted", *SETTINGS.values(), *TOGETHER.values()]  # fmt: skip
    sections = [
        Section("Every mechanism and budget", header, _in_lines(_cells(points)), note=said),
        Section("How many users it takes", ["mechanism", "trained at", "top-1", *budgets], users,
                _USERS, note=said),
    ]  # fmt: skip
    caption = f"{said} {CAPTION} {_ADJACENCY}".strip()
    return study_page("What privacy costs", findings, plots, caption, sections)


_ADJACENCY = (
    "The users and the split stay the same. Where adjacencies differ, so do the promises: zeroing "
    "a user out is less than replacing one."
)
_USERS = (
    "What was trained depends on the noise on the mean update only. With the same share of the "
    "users in each round, a larger population makes the same noise more private. The columns say "
    "how many users each row's training would need for a budget; delta is the one of the run."
)


_NOT_USERS = ("mechanism", "trained at", "top1_recall")
