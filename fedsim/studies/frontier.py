"""The privacy-budget study: recall against epsilon, mechanism by mechanism.

Before the grid, clip norm and server learning rate are searched for each mechanism and budget, on
validation users and with a seed of their own; what that search costs in privacy is stated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.privacy.claims import THEOREMS, Claim
from fedsim.privacy.mechanisms import MECHANISMS
from fedsim.privacy.mechanisms.user_level import UserLevel
from fedsim.runs import Run
from fedsim.studies.grid import Told, run_all
from fedsim.studies.guarantees import together
from fedsim.studies.simulated import load_cell
from server.privacy import mechanism_of, resolved

WITHOUT_NOISE = "dp-fedavg"  # all mechanisms of a sampler are the same then
SEARCH_SEED = 1_000_003  # far from the seeds of the grid


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
        return load_cell(self.preset, [*keys, *own])


def _clip_key(point: Point) -> str:
    adaptive = point.mechanism == "adaptive" and not math.isinf(point.epsilon)
    return "initial_clip_norm" if adaptive else "clip_norm"


def reported(
    preset: str, overrides: tuple[str, ...], users: int | None, many: int
) -> tuple[str, ...]:
    """The overrides that simulate the noise of `users` (0: none; None: `many` where fewer are
    there), with the share of them in a round that the real ones have."""
    config = load_cell(preset, overrides)
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
    whole = {point: _with_others(point, study, trained) for point in study.points}
    return pd.DataFrame(
        _row(point, seed, trained.chosen[point], run) | whole[point]
        for (point, seed), run in trained.runs.items()
    )


def _with_others(point: Point, study: Study, trained: Trained) -> dict[str, float | str]:
    """What a point's runs guarantee with its search, and with its other seeds."""
    runs = [trained.runs[point, seed] for seed in study.seeds]
    if Claim.of(runs[0].privacy) is None:
        return dict.fromkeys(THEOREMS, math.inf) | dict.fromkeys(THEOREMS.values(), "")
    trials = [trained.trials[_trial(point, *pair)] for pair in study.tuning.trials]
    return together(runs, trials)


def _trial(point: Point, clip_norm: float, server_lr: float) -> str:
    return f"search {point.name} clip {clip_norm:g} lr {server_lr:g}"


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
        _trial(point, clip, lr): study.config(point, SEARCH_SEED, clip, lr)
        for point in study.points
        for clip, lr in trials
    }
    runs = run_all(cells, folder, jobs, told)
    chosen = {}
    for point in study.points:
        scores = {(clip, lr): _validation(runs[_trial(point, clip, lr)]) for clip, lr in trials}
        chosen[point] = max(trials, key=lambda pair: scores[pair])
    return runs, chosen


def _validation(run: Run) -> float:
    rows = run.evaluations
    return float(rows[rows["split"] == "validation"].top1_recall.iloc[-1])


def _row(point: Point, seed: int, pair: tuple[float, float], run: Run) -> dict[str, Any]:
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
        "noise_deviation": _noise_deviation(run),
        **_claimed(run, point),
        "reported_users": _reported_users(run),
        "digest": run.digest,
    }


def _noise_deviation(run: Run) -> float:
    """Of a coordinate of the mean update, in the last round."""
    table = run.table("privacy")
    return float(table.noise_deviation.iloc[-1]) if len(table) else 0.0


def _claimed(run: Run, point: Point) -> dict[str, Any]:
    """The columns of the run's claim, with the budget in the place of what was spent of it."""
    claim = Claim.of(run.privacy)
    if claim is None:
        return {"epsilon": point.epsilon, "sampler": run.config.server.sampler}
    return claim.at_most(point.epsilon).columns()


def _reported_users(run: Run) -> int:
    return mechanism_of(run.config, open_federation(run.config)).population


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


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Comma-separated positive numbers. Raises FedsimError with the option's name."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(value > 0 and math.isfinite(value) for value in values):
        raise FedsimError(f"{option} = '{text}' is not accepted: write positive numbers, as 0.3,1.")
    return values
