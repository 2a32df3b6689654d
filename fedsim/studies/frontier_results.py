"""What a privacy study shows: means with intervals, where mechanisms cross, users needed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from fedsim.leakage.intervals import geometric_interval, mean_interval
from fedsim.privacy.claims import COLUMNS, THEOREMS, Claim, notes
from fedsim.studies.comparison import GEOMETRIC
from fedsim.studies.frontier import WITHOUT_NOISE

CLAIMED = COLUMNS[1:]  # the first is epsilon, which tells the rows apart
WITH_OTHERS = (*THEOREMS, *(f"own_{name}" for name in THEOREMS), *THEOREMS.values())
SCORES = ("top1_recall", "top3_recall", "perplexity", "exposure_max", "exposure_mean", "extracted")


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a mechanism and budget, with seeds, each score X with X_low and X_high, and settings.

    Means over seeds with 95 % intervals (Student's t), NaN with one seed; of what is `GEOMETRIC`
    the geometric mean with the interval made on logarithms.
    """
    out = []
    for (mechanism, epsilon), group in rows.groupby(["mechanism", "epsilon"], sort=False):
        row: dict[str, Any] = {"mechanism": mechanism, "epsilon": epsilon, "seeds": len(group)}
        for score in SCORES:
            over_seeds = geometric_interval if score in GEOMETRIC else mean_interval
            values = group[score].to_numpy(np.float64)
            row[score], row[f"{score}_low"], row[f"{score}_high"] = over_seeds(values)
        for name in ("clip_norm", "server_lr", "noise_multiplier", "noise_deviation",
                     "reported_users", *CLAIMED, *WITH_OTHERS):  # fmt: skip
            if name in group:
                row[name] = group[name].iloc[0]
        out.append(row)
    return pd.DataFrame(out)


def is_monotone(points: pd.DataFrame, score: str = "top1_recall") -> bool:
    """Whether no larger budget scores clearly worse: by more than both intervals together."""
    for _, group in points.groupby("mechanism"):
        ordered = group.sort_values("epsilon")
        lows, highs = (ordered[f"{score}_{end}"].fillna(ordered[score]) for end in ("low", "high"))
        for place, low in enumerate(lows):
            if (low > highs.iloc[place + 1 :]).any():
                return False
    return True


def crossings(
    points: pd.DataFrame, one: str, other: str, score: str = "top1_recall"
) -> list[tuple[float, float]]:
    """Budgets between which the better of two mechanisms changes, as far as intervals tell."""
    leads = _leads(points, one, other, score)
    return [(a, b) for (a, x), (b, y) in pairwise(leads) if x * y < 0]


def _leads(points: pd.DataFrame, one: str, other: str, score: str) -> list[tuple[float, float]]:
    """(budget, lead) where the intervals of the two are apart, ascending in the budget.

    Those of a perplexity are made on logarithms, so that it is judged there too.
    """
    sign = -1.0 if score == "perplexity" else 1.0
    mine, theirs = (
        points[points.mechanism == name].set_index("epsilon").sort_index() for name in (one, other)
    )
    out = []
    for epsilon in mine.index.intersection(theirs.index):
        a, b = mine.loc[epsilon], theirs.loc[epsilon]
        lead = sign * float(a[score] - b[score])
        low, high = f"{score}_low", f"{score}_high"
        apart = a[low] > b[high] or b[low] > a[high]
        if math.isfinite(epsilon) and apart:  # never where an interval is not known
            out.append((float(epsilon), lead))
    return out


def users_needed(points: pd.DataFrame, needed: Mapping[tuple[str, float], float]) -> pd.DataFrame:
    """How many users each run's noise would take to be private: one row a point, one column a
    budget.

    `needed` is the noise multiplier of each mechanism and budget. The same share of the users
    takes part in a round, so that only the cohort grows; what is trained then has the same noise
    on its mean, z C / m, and so the recall that was measured. NaN where the run's delta would be
    no guarantee any more, which it is below 1 / users only.
    """
    budgets = sorted({epsilon for _, epsilon in needed})
    out = []
    for row in points.itertuples():
        if not row.noise_multiplier:
            continue
        users = {}
        for epsilon in budgets:
            ratio = needed.get((row.mechanism, epsilon), math.nan) / row.noise_multiplier
            count = row.reported_users * ratio
            users[f"{epsilon:g}"] = count if count * row.delta < 1 else math.nan
        out.append({"mechanism": row.mechanism, "trained at": row.epsilon,
                    "top1_recall": row.top1_recall, **users})  # fmt: skip
    return pd.DataFrame(out)


def noises_needed(rows: pd.DataFrame) -> dict[tuple[str, float], float]:
    """The noise multiplier of each mechanism and budget, as the runs had it."""
    noisy = rows[rows.noise_multiplier > 0]
    return {
        (row.mechanism, row.epsilon): row.noise_multiplier
        for row in noisy.drop_duplicates(["mechanism", "epsilon"]).itertuples()
    }


def findings(points: pd.DataFrame, rows: pd.DataFrame, simulated: bool) -> list[str]:
    """What the study shows, in sentences, honest about what it cannot show."""
    out = []
    private = points[np.isfinite(points.epsilon)]
    free = points[~np.isfinite(points.epsilon)]
    users = sorted({int(n) for n in (private if len(private) else points).reported_users})
    many = " to ".join(f"{n:,}" for n in dict.fromkeys((users[0], users[-1])))
    if simulated and len(private):
        out.append(
            f"Simulated: the noise is that of larger cohorts among {many} users. The model was "
            "trained on far fewer."
        )
    out += claims(points)
    if len(private) and len(free):
        best = private.loc[private.top1_recall.idxmax()]
        bound = free.top1_recall.max()
        text = (
            f"Without noise top-1 recall is {bound:.2%}; the best private run, {best.mechanism}, "
            f"has {best.top1_recall:.2%}"
        )
        claim = Claim.of_row(best)
        out.append(f"{text}: epsilon {claim.short}." if claim else f"{text}.")
    if points.top1_recall_low.isna().any():
        return [*out, "One seed has no intervals: nothing can be said of differences; give more."]
    shape = "does not fall" if is_monotone(points) else "falls somewhere"
    out.append(f"Recall {shape} with a larger budget by more than the intervals allow.")
    others = [m for m in dict.fromkeys(points.mechanism) if m != WITHOUT_NOISE]
    for other in others if WITHOUT_NOISE in set(points.mechanism) else ():
        for score, name in (("top1_recall", "top-1 recall"), ("perplexity", "perplexity")):
            out.append(f"By {name}: {_compared(points, WITHOUT_NOISE, other, score)}")
    return [*out, *composed(points)]


def composed(points: pd.DataFrame) -> list[str]:
    """What the epsilons of several runs are made of, and by which theorem; of none, nothing."""
    out = []
    if by := _theorems(points, "mechanism", "theorem"):
        out.append(
            "Clip norm and server learning rate were searched on the same users: epsilon with the "
            f"search included is that of a run and all of its trials, {by}."
        )
    if by := _theorems(points, "mechanism", "theorem_of_all"):
        out.append(f"Epsilon of all seeds is that of all runs of a row and of its search, {by}.")
    if out:
        out.append(
            "Rows are of the same users too: who has the models of several rows has more than any "
            "of them says, and one without noise gives everything away."
        )
    return out


def theorems(rows: pd.DataFrame) -> list[str]:
    """By which theorem the searches of a finding's arms compose with a run, in a sentence."""
    by = _theorems(rows, "arm", "theorem")
    return [f"Epsilon with the search included is that of a run and all of its trials, {by}."] * (
        by != ""
    )


def _theorems(rows: pd.DataFrame, whose: str, column: str) -> str:
    """Each theorem of the column with the names of those that it is of; "" of none."""
    names: dict[str, list[str]] = {}
    known = rows[rows[column].fillna("").astype(bool)] if column in rows else rows[:0]
    for row in known.to_dict("records"):
        mine = names.setdefault(_without_step(row[column]), [])
        if row[whose] not in mine:
            mine.append(row[whose])
    return "; ".join(f"of {', '.join(mine)} by {said}" for said, mine in names.items())


def _without_step(theorem: str) -> str:
    """Without the step of a distribution's points, in which budgets differ."""
    return re.sub(r", h = [\d.e+-]+", "", theorem)


def claims(points: pd.DataFrame) -> list[str]:
    """What the epsilons of the points depend on; those that depend on the same told once."""
    named = [(str(row["mechanism"]), Claim.of_row(row)) for row in points.to_dict("records")]
    return notes((name, claim) for name, claim in named if claim is not None)


def _compared(points: pd.DataFrame, one: str, other: str, score: str) -> str:
    """Where one is better than the other, and where they cross, as far as the intervals tell."""
    leads = _leads(points, one, other, score)
    if not leads:
        return f"between {other} and {one} these seeds settle nothing, their intervals overlap."
    better = {
        name: [f"{epsilon:g}" for epsilon, lead in leads if (lead > 0) == (name == one)]
        for name in (one, other)
    }
    told = [f"{name} is better at budget {', '.join(at)}" for name, at in better.items() if at]
    crossed = [f"between {a:g} and {b:g}" for a, b in crossings(points, one, other, score)]
    where = f"; they cross {' and '.join(crossed)}" if crossed else ""
    return f"of {one} and {other}, {' and '.join(told)}{where}."
