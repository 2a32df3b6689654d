"""The memorization study: exposure by users and copies, in four settings of the same text.

Central training, FedAvg on text dealt out at random, FedAvg by user, and user-level DP (Thakkar
et al. 2021; Ramaswamy et al. 2020). All train the same network on the same sentences, canaries
included, each as often: the central one makes as many passes as a federated user takes part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsim.config import Config
from fedsim.device import threads
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.leakage import ranks
from fedsim.leakage.intervals import geometric_interval, mean_interval
from fedsim.privacy.claims import Claim
from fedsim.runs import Run
from fedsim.studies.cell_store import published
from fedsim.studies.frontier import reported
from fedsim.studies.grid import Told, run_all
from fedsim.studies.ordering import Difference, Growth, differences, growth, trained, verdict
from fedsim.studies.pooled import train_pooled
from fedsim.studies.simulated import load_cell
from server.privacy import resolved

CENTRAL, IID, USER, DP = "central IID", "FedAvg IID", "FedAvg by user", "user-level DP"
ORDER = (CENTRAL, IID, USER, DP)  # the most memorizing first
SCORES = ("exposure_bits", "exact_bits", "margin_bits")
GEOMETRIC = ("validation_perplexity",)  # averaged over seeds on a logarithmic scale
NEVER_SEEN_BITS = 1 / math.log(2)
MANY_USERS = 20_000  # whose noise is simulated where fewer are there
_CENTRAL_KEYS = "evaluation.central"  # which have no effect in the other settings


@dataclass(frozen=True)
class Private:
    """The setting with user-level DP: budget, clip norm, server learning rate, and the users
    whose noise is simulated (0: those that are there; None: many where fewer are)."""

    epsilon: float
    clip_norm: float
    server_lr: float
    users: int | None


@dataclass(frozen=True)
class Study:
    """What a study asks for."""

    seeds: tuple[int, ...]
    private: Private
    preset: str
    overrides: tuple[str, ...]

    def config(self, setting: str, seed: int) -> Config:
        """One cell. That of central training is the one by user, with its passes."""
        plain = tuple(o for o in self.overrides if not o.startswith(_CENTRAL_KEYS))
        base = load_cell(self.preset, plain)
        keys = [f"seed={seed}", f"evaluation.every={base.server.rounds}",
                "evaluation.trigram=false"]  # fmt: skip
        if setting == CENTRAL:
            keys += ["evaluation.central=true", f"evaluation.central_epochs={self.passes(base)}"]
            return load_cell(self.preset, [*self.overrides, *keys])
        keys.append("evaluation.central=false")
        if setting == IID:
            keys.append("federation.partition=iid")
        if setting == DP:
            how = self.private
            keys += [
                "privacy=dp-fedavg",
                f"privacy.epsilon={how.epsilon!r}",
                f"privacy.clip_norm={how.clip_norm!r}",
                f"optimizer.lr={how.server_lr!r}",
                *reported(self.preset, plain, how.users, MANY_USERS),
            ]
        return load_cell(self.preset, [*plain, *keys])

    def passes(self, base: Config) -> int:
        """Over the text, as often as a user of the federation trains on its own, rounded."""
        population = len(open_federation(base).population)
        taken = base.server.rounds * base.server.cohort * base.client.epochs / population
        return max(1, round(taken))


_VARIED = {
    "evaluation.central": "central training is one of its settings",
    "evaluation.trigram": "it trains no baseline",
    "seed": "--seeds",
    "server.rounds": "--rounds",
    "federation.partition": "each partition is one of its settings",
    "evaluation.every": "exposure is measured at the end",
    "evaluation.central_epochs": "--rounds",
    "privacy": "--epsilon",
    "privacy.name": "--epsilon",
    "privacy.epsilon": "--epsilon",
    "privacy.clip_norm": "--clip-norm",
    "privacy.report_users": "--report-users",
    "privacy.report_cohort": "--report-users",
}


def check_overrides(overrides: Sequence[str]) -> None:
    """Raises FedsimError for a key that the study itself sets."""
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in _VARIED:
            use = _VARIED[key]
            cure = f"use {use}" if use.startswith("-") else f"leave it out, {use}"
            raise FedsimError(f"The study sets {key} itself: {cure}.")


Trained = dict[tuple[str, int], Run]  # by setting and seed


def run_study(study: Study, folder: Path, jobs: int, told: Told) -> tuple[pd.DataFrame, ...]:
    """Train what is missing, see `train` and `tables`."""
    return tables(train(study, folder, jobs, told))


def train(study: Study, folder: Path, jobs: int, told: Told) -> Trained:
    """Train what is missing.

    Raises FedsimError before anything is trained where a cell asks for what is not allowed.
    """
    cells = {(s, seed): study.config(s, seed) for seed in study.seeds for s in ORDER}
    _check(cells[DP, study.seeds[0]])
    runs: Trained = {}
    for central in (False, True):
        mine = {key: cell for key, cell in cells.items() if (key[0] == CENTRAL) == central}
        names = {f"{setting}, seed {seed}": (setting, seed) for setting, seed in mine}
        made = run_all(
            {name: mine[key] for name, key in names.items()},
            folder,
            jobs,
            _counting(told, len(runs), len(cells)),
            train_pooled if central else None,
        )
        runs |= {names[name]: run for name, run in made.items()}
    return {key: runs[key] for key in cells}


def tables(runs: Trained) -> tuple[pd.DataFrame, ...]:
    """(canaries, runs): one row a setting, seed and canary, and one a setting and seed."""
    canaries = pd.concat([_canaries(s, seed, run) for (s, seed), run in runs.items()])
    rows = pd.DataFrame([_row(s, seed, run) for (s, seed), run in runs.items()])
    return canaries.reset_index(drop=True), rows


def _check(private: Config) -> None:
    federation = open_federation(private)
    resolved(private, federation)
    if not federation.planted.users:
        raise FedsimError("No canary is planted, so none can be memorized; set canaries.per_cell.")


def _counting(told: Told, before: int, of: int) -> Told:
    return lambda name, done, _: told(name, before + done, of)


def _canaries(setting: str, seed: int, run: Run) -> pd.DataFrame:
    """The exposure of a run's last round, with what it rests on.

    copies_trained: how often the canary was in a sentence that was trained on. exact_bits: its
    exposure among all pairs of words in the place of its last two; NaN for controls. margin_bits:
    how much likelier it is than the mean held-out canary; it has no ceiling.
    """
    table = run.exposure
    table = table[table["round"] == table["round"].max()].drop(columns="round")
    controls = table.nats[table.kind == "held_out"].mean()
    table = table.assign(margin_bits=(controls - table.nats) / math.log(2))
    table["copies_trained"] = _copies_trained(setting, run)
    table["exact_bits"] = _exact_bits(run)
    table.insert(0, "setting", setting)
    table.insert(1, "seed", seed)
    return table


def _copies_trained(setting: str, run: Run) -> list[int]:
    """For each canary, by its index."""
    federation = open_federation(run.config)
    if setting == CENTRAL:
        times = np.full(federation.users, run.config.evaluation.central_epochs)
    else:
        rounds = np.bincount(run.clients.user, minlength=federation.users)
        times = rounds * run.config.client.epochs
    return [int(times[federation.owners(canary)].sum()) for canary in federation.planted.canaries]


def _exact_bits(run: Run) -> np.ndarray:
    """By the canary's index; kept in the run's folder, since it takes seconds."""
    kept = run.detail("canaries", "exact")
    if kept is not None:
        return kept.bits.to_numpy(np.float64)
    model, planted = run.model(), open_federation(run.config).planted
    most = ranks.pair_bits(model.vocabulary_size)
    with threads(1):  # a rank is the same on every machine
        bits = [
            most - math.log2(ranks.exact_rank(model, np.array(canary.words)))
            if canary.users
            else math.nan
            for canary in planted.canaries
        ]
    run.save_detail("canaries", "exact", pd.DataFrame({"bits": bits}))
    return np.array(bits)


def _row(setting: str, seed: int, run: Run) -> dict[str, Any]:
    config, test = run.config, run.results.iloc[0]
    scores = run.evaluations[run.evaluations["split"] == "validation"].iloc[-1]
    if setting == CENTRAL:
        passes = float(config.evaluation.central_epochs)
    else:
        users = len(open_federation(config).population)
        passes = len(run.clients) * config.client.epochs / users
    return {
        "setting": setting,
        "seed": seed,
        "passes": passes,
        "validation_top1": scores.top1_recall,
        "validation_perplexity": scores.perplexity,
        "test_top1": test.top1_recall,
        "test_perplexity": test.perplexity,
        "digest": run.digest,
        "folder": str(published(run)),
        **_claimed(run),
    }


def _claimed(run: Run) -> dict[str, Any]:
    """The columns of a private run's claim, with the budget in the place of what was spent."""
    claim = Claim.of(run.privacy)
    return claim.at_most(run.config.privacy.options.epsilon).columns() if claim else {}


def promised(rows: pd.DataFrame) -> str:
    """What the private setting guarantees, from any rows with the columns of its claim."""
    private = rows[rows.setting == DP]
    claim = Claim.of_row(private.iloc[0]) if len(private) else None
    return claim.sentence("Epsilon of user-level DP") if claim else ""


def grid(canaries: pd.DataFrame) -> pd.DataFrame:
    """One row a setting, users and copies: means over seeds, with 95 % intervals over them.

    n: canaries of all seeds.
    """
    out = []
    rows = trained(canaries)
    for (setting, users, repeats), group in rows.groupby(["setting", "users", "repeats"]):
        row: dict[str, Any] = {"setting": setting, "users": users, "repeats": repeats}
        row |= {"n": len(group), "copies_trained": group.copies_trained.mean()}
        for score in SCORES:
            name = score.removesuffix("_bits")
            row[name], row[f"{name}_low"], row[f"{name}_high"] = _over_seeds(group, score)
        row["at_ceiling"] = int((group.exposure_bits >= group.ceiling_bits).sum())
        row["extracted"] = int(group.extracted.sum())
        out.append(row)
    table = pd.DataFrame(out)
    place = table.setting.map({name: i for i, name in enumerate(ORDER)})
    order = table.assign(place=place).sort_values(["place", "users", "repeats"]).index
    return table.loc[order].reset_index(drop=True)


def _over_seeds(canaries: pd.DataFrame, score: str) -> tuple[float, float, float]:
    """(mean, low, high) of the seeds' means: the canaries of a seed share one model."""
    return mean_interval(canaries.groupby("seed")[score].mean().to_numpy(np.float64))


def settings(canaries: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """One row a setting: usefulness, mean exposure over the grid, extraction, and the controls.

    Means over seeds with 95 % intervals, of what is `GEOMETRIC` made on logarithms.
    """
    out = []
    for name in ORDER:
        mine, seen = canaries[canaries.setting == name], trained(canaries)
        seen = seen[seen.setting == name]
        controls = mine[mine.kind == "held_out"]
        row: dict[str, Any] = {"setting": name, "seeds": mine.seed.nunique()}
        own = runs[runs.setting == name]
        for score in ("passes", "validation_top1", "validation_perplexity", "test_top1"):
            over_seeds = geometric_interval if score in GEOMETRIC else mean_interval
            values = own[score].to_numpy(np.float64)
            row[score], row[f"{score}_low"], row[f"{score}_high"] = over_seeds(values)
        for what, table in (("", seen), ("control_", controls)):
            row[f"{what}exposure"], row[f"{what}low"], row[f"{what}high"] = _over_seeds(
                table, "exposure_bits"
            )
            row |= {f"{what}n": len(table), f"{what}extracted": int(table.extracted.sum())}
        row["margin"] = _over_seeds(seen, "margin_bits")[0]
        row["exact"] = _over_seeds(seen, "exact_bits")[0]
        row["never_trained"] = int((mine.kind == "planted").sum()) - len(seen)
        out.append(row)
    return pd.DataFrame(out)


@dataclass(frozen=True)
class Outcome:
    """What the study found."""

    canaries: pd.DataFrame
    runs: pd.DataFrame
    grid: pd.DataFrame
    settings: pd.DataFrame
    differences: list[Difference]
    growths: list[Growth]

    @classmethod
    def of(cls, canaries: pd.DataFrame, runs: pd.DataFrame) -> Outcome:
        """All tables from the rows of `run_study`."""
        return cls(
            canaries,
            runs,
            grid(canaries),
            settings(canaries, runs),
            differences(canaries, ORDER, SCORES),
            [growth(canaries, name) for name in ORDER],
        )

    def verdict(self, score: str = "exposure_bits") -> str:
        """Of the order, by a score."""
        return verdict([d for d in self.differences if d.score == score])
