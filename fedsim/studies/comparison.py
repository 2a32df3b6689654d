"""What a comparison measured: its tables, assembled from the folders of its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from fedsim.runs import Run
from fedsim.studies.attack import membership
from fedsim.studies.cell_store import published
from fedsim.studies.cells import Cell

# A run's column -> the column of its table `results`, on test users.
SCORES = {
    "top1": "top1_recall",
    "top3": "top3_recall",
    "perplexity": "perplexity",
    "keystrokes_saved": "keystroke_savings",
    "worst_decile_top1": "top1_recall_worst_tenth",
}
GEOMETRIC = ("perplexity",)  # averaged over seeds on a logarithmic scale
SPENT = ("tokens", "upload_bytes", "download_bytes")  # columns of the table `rounds`, summed up
# A run's column -> the column of its curve.
_TO_TARGET = {
    "rounds_to_target": "round",
    "bytes_to_target": "upload_bytes",
    "download_to_target": "download_bytes",
}
ABOUT = ("strategy", "seed", "state", "error", "run")  # the other columns that are no measure


@dataclass(frozen=True)
class Comparison:
    """Tidy tables, one row as said.

    axes: config keys beside the strategy, each a column of the tables. The first strategy is the
    reference of paired tests. target: validation top-1 (share) that `rounds_to_target` refers to;
    None where none was asked for, and then no column of one is there.

    runs: a cell and seed: strategy, axes, seed, state (finished, failed), error, run (its folder,
    relative to the study's); on test users top1, top3, perplexity, keystrokes_saved, and
    worst_decile_top1: the mean over the tenth of the users (rounded up, of those with a word) with
    the lowest; validation_top1; rounds, tokens, upload_bytes, download_bytes, seconds (of
    training); rounds_to_target, bytes_to_target (uploaded), download_to_target (bytes), missing
    where it was not reached; where
    there are canaries, canaries_trained: those whose holders took part, and of these, missing where
    it is 0, exposure_bits (mean) and canaries_extracted (share); membership_auc where it was asked
    for.
    curves: a cell, seed and evaluated round: strategy, axes, seed, round, top1, top3, perplexity
    (validation users), upload_bytes, download_bytes, tokens (all since round 1).
    chosen: a cell and searched key: strategy, axes, key, low, high, value; empty without tuning.
    trials: strategy, axes, trial, a column for each searched key, rounds (trained), top1
    (validation users, after these), state (finished, stopped, failed).
    made: what a reproducibility checklist asks.
    privacy: a cell with a mechanism: strategy, axes, mechanism, the columns of the `Claim` of one
    run (missing where there is none), trials (of its search, the mean of their
    number where it is a private selection), private (whether it is), epsilon_with_search (of these
    and one run together), epsilon_of_all (of these and the runs of all seeds), theorem and
    theorem_of_all (by which), the same two epsilons with own_ for the run's own users, note (why a
    figure is missing); empty where no cell has a mechanism.
    """

    axes: tuple[str, ...]
    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    target: float | None
    runs: pd.DataFrame
    curves: pd.DataFrame
    chosen: pd.DataFrame
    trials: pd.DataFrame
    made: dict[str, Any]
    privacy: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def measures(self) -> list[str]:
        """The measured columns of `runs`."""
        return [c for c in self.runs.columns if c not in (*ABOUT, *self.axes)]


def validation(run: Run) -> pd.DataFrame:
    """The run's scores on validation users by evaluated round, with what was spent until then."""
    scores, rounds = run.evaluations, run.rounds.set_index("round")
    scores = scores[scores["split"] == "validation"]
    spent = rounds[list(SPENT)].cumsum().reindex(scores["round"])
    return pd.DataFrame(
        {
            "round": scores["round"].to_numpy(),
            "top1": scores.top1_recall.to_numpy(),
            "top3": scores.top3_recall.to_numpy(),
            "perplexity": scores.perplexity.to_numpy(),
            **{name: spent[name].to_numpy() for name in SPENT},
        }
    )


def measured(run: Run, attacked: bool) -> dict[str, Any]:
    """The columns of a finished run, but for those of the target."""
    result, rounds = run.results.iloc[0], run.rounds
    return {
        "state": "finished",
        "error": "",
        "run": str(published(run)),
        **{name: float(result[column]) for name, column in SCORES.items()},
        "validation_top1": float(validation(run).top1.iloc[-1]),
        "rounds": len(rounds),
        **{name: int(rounds[name].sum()) for name in SPENT},
        "seconds": float(rounds.seconds.sum()),
        **_leaked(run, attacked),
    }


def _leaked(run: Run, attacked: bool) -> dict[str, float]:
    """Exposure after the last round, and where all were `attacked` the AUC: what an earlier call
    left of some of them would compare these with nobody."""
    table = run.exposure
    out: dict[str, float] = {}
    last = table[table["round"] == table["round"].max()]
    planted = last[last.kind == "planted"]
    seen = planted[planted.holder_participations > 0]
    if len(planted):
        out["canaries_trained"] = len(seen)
    if len(seen):
        out["exposure_bits"] = float(seen.exposure_bits.mean())
        out["canaries_extracted"] = float(seen.extracted.mean())
    auc = membership(run) if attacked else None
    return out if auc is None else out | {"membership_auc": auc}


ALL_REACH = "all"  # the target that every run reaches
Target = float | str | None  # a share, ALL_REACH, or none


def common_target(curves: pd.DataFrame, keys: list[str]) -> float:
    """The lowest final top-1 of all runs, so that every run reaches it.

    keys: the columns that tell the runs apart.
    """
    return float(curves.sort_values("round").groupby(keys).top1.last().min())


def reached(curve: pd.DataFrame, target: float) -> dict[str, float]:
    """Rounds and bytes until the first evaluation with a top-1 of at least `target`."""
    rows = curve.sort_values("round")
    rows = rows[rows.top1 >= target]
    if not len(rows):
        return dict.fromkeys(_TO_TARGET, math.nan)
    return {name: float(rows.iloc[0][column]) for name, column in _TO_TARGET.items()}


def assemble(
    outcomes: Mapping[tuple[Cell, int], Run | Exception],
    target: Target,
    attacked: bool,
) -> tuple[pd.DataFrame, pd.DataFrame, float | None]:
    """(runs, curves, target) from what became of each cell and seed; see `Comparison`."""
    rows: list[dict[str, Any]] = []
    curves: list[pd.DataFrame] = []
    names: list[str] = []
    for (cell, seed), outcome in outcomes.items():
        who = {**dict(cell.columns), "seed": seed}
        names = list(who)
        if isinstance(outcome, Exception):
            said = str(outcome) or type(outcome).__name__
            rows.append({**who, "state": "failed", "error": said, "run": ""})
            continue
        rows.append({**who, **measured(outcome, attacked)})
        curve = validation(outcome)
        for place, name in enumerate(names):
            curve.insert(place, name, [who[name]] * len(curve))
        curves.append(curve)
    joined = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()
    goal = None if isinstance(target, str) else target
    if target == ALL_REACH and curves:
        goal = common_target(joined, names)
    remaining = iter(curves)
    for row in rows:
        if goal is not None and row["state"] == "finished":
            row |= reached(next(remaining), goal)
    runs = pd.DataFrame(rows)
    counts = ("rounds", *SPENT, *_TO_TARGET, "canaries_trained")
    whole = [name for name in counts if name in runs]
    return runs.astype(dict.fromkeys(whole, "Int64")), joined, goal
