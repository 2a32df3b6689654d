"""The privacy-budget study: recall against epsilon, mechanism by mechanism.

Before the grid, clip norm and server learning rate are searched for each mechanism and budget, on
validation users and with a seed of their own; what that search costs in privacy is stated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fedsim.config import Config, load
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.privacy.mechanisms import MECHANISMS
from fedsim.privacy.mechanisms.user_level import UserLevel
from fedsim.runs import Run
from fedsim.studies.grid import Told, run_all
from server.privacy import mechanism_of, resolved

WITHOUT_NOISE = "dp-fedavg"  # all mechanisms of a sampler are the same then
SEARCH_SEED = 1_000_003  # far from the seeds of the grid
SCORES = ("top1_recall", "top3_recall", "perplexity", "exposure_max", "exposure_mean", "extracted")


@dataclass(frozen=True)
class Point:
    """One mechanism at one budget; infinite is without noise."""

    mechanism: str
    epsilon: float

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.mechanism} {self.epsilon:g}"


@dataclass(frozen=True)
class Tuning:
    """The settings that are searched; one value each is no search."""

    clip_norms: tuple[float, ...]
    server_lrs: tuple[float, ...]

    @property
    def trials(self) -> list[tuple[float, float]]:
        """All pairs, or none where there is nothing to choose."""
        pairs = [(clip, lr) for clip in self.clip_norms for lr in self.server_lrs]
        return pairs if len(pairs) > 1 else []


@dataclass(frozen=True)
class Study:
    """What a study asks for."""

    points: tuple[Point, ...]
    seeds: tuple[int, ...]
    tuning: Tuning
    preset: str
    overrides: tuple[str, ...]

    def config(self, point: Point, seed: int, clip_norm: float, server_lr: float) -> Config:
        """One cell."""
        sampler = MECHANISMS[point.mechanism].samplers[0]
        noiseless = math.isinf(point.epsilon)
        keys = [
            f"privacy={WITHOUT_NOISE if noiseless else point.mechanism}",
            f"privacy.{_clip_key(point)}={clip_norm!r}",
            f"server.sampler={sampler}",
            f"optimizer.lr={server_lr!r}",
            f"seed={seed}",
        ]
        keys += [] if noiseless else [f"privacy.epsilon={point.epsilon!r}"]
        # Without noise there is nothing that a larger cohort could make smaller.
        own = [o for o in self.overrides if not (noiseless and o.startswith("privacy."))]
        return load(self.preset, [*keys, *own])


def _clip_key(point: Point) -> str:
    adaptive = point.mechanism == "adaptive" and not math.isinf(point.epsilon)
    return "initial_clip_norm" if adaptive else "clip_norm"


def reported(
    preset: str, overrides: tuple[str, ...], users: int | None, many: int
) -> tuple[str, ...]:
    """The overrides that simulate the noise of `users` (0: none; None: `many` where fewer are
    there), with the share of them in a round that the real ones have."""
    config = load(preset, overrides)
    there = len(open_federation(config).population)
    if users is None:
        users = many if there < many else 0
    if not users:
        return ()
    if users < there:
        raise FedsimError(
            f"--report-users {users} is less than the {there} that are there; give more, or 0."
        )
    cohort = round(config.server.cohort * users / there)
    return (f"privacy.report_users={users}", f"privacy.report_cohort={cohort}")


class Trained(NamedTuple):
    """The runs of the grid by point and seed, those of the search by name, and the clip norm and
    the server's rate that it chose for each point."""

    runs: dict[tuple[Point, int], Run]
    trials: dict[str, Run]
    chosen: dict[Point, tuple[float, float]]


def run_study(study: Study, folder: Path, jobs: int, told: Told) -> pd.DataFrame:
    """One row for each run of the grid, see `train` and `rows`."""
    return rows(study, train(study, folder, jobs, told))


def train(study: Study, folder: Path, jobs: int, told: Told) -> Trained:
    """Search, and run the grid.

    Raises FedsimError before anything is trained where a cell asks for what is not allowed.
    """
    first = (study.tuning.clip_norms[0], study.tuning.server_lrs[0])
    for point in study.points:
        config = study.config(point, study.seeds[0], *first)
        resolved(config, open_federation(config))
    trials, chosen = _search(study, folder, jobs, told)
    cells = {
        f"{point.name} seed {seed}": study.config(point, seed, *chosen[point])
        for point in study.points
        for seed in study.seeds
    }
    runs = run_all(cells, folder, jobs, told)
    by_point = {
        (p, seed): runs[f"{p.name} seed {seed}"] for p in study.points for seed in study.seeds
    }
    return Trained(by_point, trials, chosen)


def rows(study: Study, trained: Trained) -> pd.DataFrame:
    """What came out, one row for each run of the grid."""
    return pd.DataFrame(
        _row(point, seed, trained.chosen[point], run, study)
        for (point, seed), run in trained.runs.items()
    )


_VARIED = {
    "seed": "--seeds",
    "privacy": "--mechanisms",
    "privacy.name": "--mechanisms",
    "privacy.epsilon": "--epsilons",
    "privacy.noise_multiplier": "--epsilons",
    "privacy.clip_norm": "--clip-norms",
    "privacy.initial_clip_norm": "--clip-norms",
    "privacy.report_users": "--report-users",
    "privacy.report_cohort": "--report-users",
    "optimizer.lr": "--server-lrs",
    "server.sampler": "--mechanisms, each of which has its own",
}


def check_overrides(overrides: Sequence[str]) -> None:
    """Raises FedsimError for a key that the study itself varies."""
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in _VARIED:
            raise FedsimError(f"The study sets {key} itself: use {_VARIED[key]}.")


def _search(
    study: Study, folder: Path, jobs: int, told: Told
) -> tuple[dict[str, Run], dict[Point, tuple[float, float]]]:
    """The trials, and for each point the pair with the highest top-1 recall on validation users."""
    trials = study.tuning.trials
    only = (study.tuning.clip_norms[0], study.tuning.server_lrs[0])
    if not trials:
        return {}, dict.fromkeys(study.points, only)
    cells = {
        f"search {point.name} clip {clip:g} lr {lr:g}": study.config(point, SEARCH_SEED, clip, lr)
        for point in study.points
        for clip, lr in trials
    }
    runs = run_all(cells, folder, jobs, told)
    chosen = {}
    for point in study.points:
        scores = {
            (clip, lr): _validation(runs[f"search {point.name} clip {clip:g} lr {lr:g}"])
            for clip, lr in trials
        }
        chosen[point] = max(trials, key=lambda pair: scores[pair])
    return runs, chosen


def _validation(run: Run) -> float:
    rows = run.evaluations
    return float(rows[rows["split"] == "validation"].top1_recall.iloc[-1])


def _row(
    point: Point, seed: int, pair: tuple[float, float], run: Run, study: Study
) -> dict[str, Any]:
    result = run.results.iloc[0]
    exposure = run.exposure
    last = exposure[exposure["round"] == exposure["round"].max()]
    seen = last[(last.kind == "planted") & (last.holder_participations > 0)]
    options = run.config.privacy.options
    return {
        "mechanism": point.mechanism,
        "epsilon": point.epsilon,
        "seed": seed,
        "top1_recall": result.top1_recall,
        "top3_recall": result.top3_recall,
        "perplexity": result.perplexity,
        "exposure_max": seen.exposure_bits.max() if len(seen) else math.nan,
        "exposure_mean": seen.exposure_bits.mean() if len(seen) else math.nan,
        "extracted": seen.extracted.mean() if len(seen) else math.nan,
        "clip_norm": pair[0],
        "server_lr": pair[1],
        "noise_multiplier": options.noise_multiplier,
        "delta": options.delta if not math.isinf(point.epsilon) else math.nan,
        "noise_deviation": _noise_deviation(run),
        "sampler": run.config.server.sampler,
        "adjacency": _adjacency(run),
        "epsilon_with_search": _with_search(run, len(study.tuning.trials)),
        "reported_users": _reported_users(run),
        "digest": run.digest,
    }


def _noise_deviation(run: Run) -> float:
    """Of a coordinate of the mean update, in the last round."""
    table = run.table("privacy")
    return float(table.noise_deviation.iloc[-1]) if len(table) else 0.0


def _adjacency(run: Run) -> str:
    said = run.privacy
    return str(said["guarantee"]["adjacency"]) if said and said["guarantee"] else ""


def _with_search(run: Run, trials: int) -> float:
    """Epsilon of the run and its searches together: they saw the same users."""
    config, noise = run.config, run.config.privacy.options.noise_multiplier
    if not noise:
        return math.inf
    mechanism = mechanism_of(config, open_federation(config))
    found = mechanism.guarantee(noise, config.server.rounds, trials + 1)
    return found.epsilon if found else math.inf


def _reported_users(run: Run) -> int:
    return mechanism_of(run.config, open_federation(run.config)).population


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a mechanism and budget: means over seeds with 95 % half widths (Student's t)."""
    from scipy import stats

    out = []
    for (mechanism, epsilon), group in rows.groupby(["mechanism", "epsilon"], sort=False):
        row: dict[str, Any] = {"mechanism": mechanism, "epsilon": epsilon, "seeds": len(group)}
        for score in SCORES:
            values = group[score].to_numpy(np.float64)
            row[score] = float(values.mean())
            spread = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
            row[f"{score}_half"] = float(stats.t.ppf(0.975, max(len(values) - 1, 1)) * spread)
        for name in ("sampler", "adjacency", "clip_norm", "server_lr", "noise_multiplier", "delta",
                     "noise_deviation", "epsilon_with_search", "reported_users"):  # fmt: skip
            row[name] = group[name].iloc[0]
        out.append(row)
    return pd.DataFrame(out)


def is_monotone(points: pd.DataFrame, score: str = "top1_recall") -> bool:
    """Whether no larger budget scores clearly worse: by more than both intervals together."""
    for _, group in points.groupby("mechanism"):
        ordered = group.sort_values("epsilon")
        values, halves = ordered[score].to_numpy(), ordered[f"{score}_half"].to_numpy()
        halves = np.nan_to_num(halves)
        for low in range(len(ordered)):
            for high in range(low + 1, len(ordered)):
                if values[low] - halves[low] > values[high] + halves[high]:
                    return False
    return True


def crossings(
    points: pd.DataFrame, one: str, other: str, score: str = "top1_recall"
) -> list[tuple[float, float]]:
    """Budgets between which the better of two mechanisms changes, as far as intervals tell."""
    leads = _leads(points, one, other, score)
    return [(a, b) for (a, x), (b, y) in pairwise(leads) if x * y < 0]


def _leads(points: pd.DataFrame, one: str, other: str, score: str) -> list[tuple[float, float]]:
    """(budget, lead) where the intervals of the two are apart, ascending in the budget."""
    sign = -1.0 if score == "perplexity" else 1.0
    mine, theirs = (
        points[points.mechanism == name].set_index("epsilon").sort_index() for name in (one, other)
    )
    out = []
    for epsilon in mine.index.intersection(theirs.index):
        a, b = mine.loc[epsilon], theirs.loc[epsilon]
        lead = sign * float(a[score] - b[score])
        apart = abs(lead) > a[f"{score}_half"] + b[f"{score}_half"]
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


def parse_points(mechanisms: str, epsilons: str) -> tuple[Point, ...]:
    """From comma-separated lists. Raises FedsimError for what is no budget."""
    budgets = []
    for text in epsilons.split(","):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not value > 0:
            raise FedsimError(f"--epsilons: '{text.strip()}' is no budget; write inf,8,4 or so.")
        budgets.append(value)
    names = [name.strip() for name in mechanisms.split(",") if name.strip()]
    if not names:
        raise FedsimError("--mechanisms names none; give at least one, such as dp-fedavg,blt.")
    for name in names:
        if not issubclass(MECHANISMS[name], UserLevel):
            known = ", ".join(n for n in MECHANISMS if issubclass(MECHANISMS[n], UserLevel))
            raise FedsimError(
                f"--mechanisms: '{name}' gives no guarantee for users against who sees the model, "
                f"so it has no place on this frontier; choose of: {known}."
            )
    for given in (names, budgets):
        if len(set(given)) < len(given):
            raise FedsimError("--mechanisms and --epsilons name each once; leave the second out.")
    return tuple(Point(name, budget) for name in names for budget in budgets)


def noises_needed(rows: pd.DataFrame) -> dict[tuple[str, float], float]:
    """The noise multiplier of each mechanism and budget, as the runs had it."""
    noisy = rows[rows.noise_multiplier > 0]
    return {
        (row.mechanism, row.epsilon): row.noise_multiplier
        for row in noisy.drop_duplicates(["mechanism", "epsilon"]).itertuples()
    }


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Comma-separated positive numbers. Raises FedsimError with the option's name."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(value > 0 and math.isfinite(value) for value in values):
        raise FedsimError(f"{option} = '{text}' is not accepted: write positive numbers, as 0.3,1.")
    return values


def findings(points: pd.DataFrame, rows: pd.DataFrame, simulated: bool) -> list[str]:
    """What the study shows, in sentences, honest about what it cannot show."""
    out = []
    private = points[np.isfinite(points.epsilon)]
    free = points[~np.isfinite(points.epsilon)]
    users = sorted({int(n) for n in (private if len(private) else points).reported_users})
    many = " to ".join(f"{n:,}" for n in dict.fromkeys((users[0], users[-1])))
    if simulated and len(private):
        out.append(
            f"Simulated: the noise is that of larger cohorts among {many} users, and every epsilon "
            "is theirs. The model was trained on far fewer."
        )
    else:
        out.append(f"Every epsilon is that of the {many} users that were really there.")
    if len(private) and len(free):
        best = private.loc[private.top1_recall.idxmax()]
        bound = free.top1_recall.max()
        out.append(
            f"Without noise top-1 recall is {bound:.2%}; the best private run, {best.mechanism} "
            f"at epsilon {best.epsilon:g}, has {best.top1_recall:.2%}."
        )
    if points.top1_recall_half.isna().any():
        return [*out, "One seed has no intervals: nothing can be said of differences; give more."]
    shape = "does not fall" if is_monotone(points) else "falls somewhere"
    out.append(f"Recall {shape} with a larger budget by more than the intervals allow.")
    others = [m for m in dict.fromkeys(points.mechanism) if m != WITHOUT_NOISE]
    for other in others if WITHOUT_NOISE in set(points.mechanism) else ():
        for score, name in (("top1_recall", "top-1 recall"), ("perplexity", "perplexity")):
            out.append(f"By {name}: {_compared(points, WITHOUT_NOISE, other, score)}")
    if (rows.epsilon_with_search > rows.epsilon).any():
        out.append(
            "Clip norm and server learning rate were searched on the same users: the column "
            "'epsilon, search included' composes the run with all its trials."
        )
    return out


def _compared(points: pd.DataFrame, one: str, other: str, score: str) -> str:
    """Where one is better than the other, and where they cross, as far as the intervals tell."""
    leads = _leads(points, one, other, score)
    if not leads:
        return f"between {other} and {one} these seeds settle nothing, their intervals overlap."
    better = {
        name: [f"{epsilon:g}" for epsilon, lead in leads if (lead > 0) == (name == one)]
        for name in (one, other)
    }
    told = [f"{name} is better at epsilon {', '.join(at)}" for name, at in better.items() if at]
    crossed = [f"between {a:g} and {b:g}" for a, b in crossings(points, one, other, score)]
    where = f"; they cross {' and '.join(crossed)}" if crossed else ""
    return f"of {one} and {other}, {' and '.join(told)}{where}."
