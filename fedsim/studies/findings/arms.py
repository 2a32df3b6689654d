"""Findings that compare arms: each is searched alike, then trained on every seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.privacy.claims import Claim
from fedsim.runs import Run
from fedsim.studies.findings.base import CURVE, Asked, Finding, Measured
from fedsim.studies.frontier import SEARCH_SEED
from fedsim.studies.grid import Crew, Told, run_all
from fedsim.studies.guarantees import together
from fedsim.studies.simulated import load_cell


@dataclass(frozen=True)
class Arm:
    """One of what is compared. choices: the settings that are searched, each a tuple of overrides;
    a single one is no search."""

    name: str
    keys: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...] = ((),)


class Arms(Finding):
    """Search on validation users with a seed of its own, then train and score on test users."""

    preset: ClassVar[str] = "privacy"
    shared: ClassVar[tuple[str, ...]] = ()  # keys of every cell beside the preset's

    def arms(self, asked: Asked) -> tuple[Arm, ...]:
        """What is compared."""
        raise NotImplementedError

    def score(self, run: Run, arm: Arm) -> tuple[float, ...]:
        """Of a trial; the highest is chosen. By default top-1 recall on validation users."""
        return (float(validation(run).top1_recall.iloc[-1]),)

    def row(self, run: Run, arm: Arm) -> dict[str, Any]:
        """What the rule reads of a run."""
        return {"top1": float(run.results.top1_recall.iloc[0])}

    def config(self, asked: Asked, arm: Arm, choice: tuple[str, ...], seed: int) -> Config:
        """One cell."""
        own = (*self.shared, *arm.keys, *choice, f"seed={seed}")
        return load_cell(self.preset, [*own, *asked.overrides])

    def cells(self, asked: Asked) -> dict[str, Config]:
        """See `Finding.cells`."""
        return {
            f"{arm.name}, seed {seed}": self.config(asked, arm, arm.choices[0], seed)
            for arm in self.arms(asked)
            for seed in asked.seeds
        }

    def measure(self, asked: Asked, folder: Path, jobs: int, told: Told) -> Measured:
        """See `Finding.measure`; the column `chosen` says what the search found."""
        arms = self.arms(asked)
        trials, chosen = self._search(asked, arms, folder, jobs, told)
        cells = {
            f"{arm.name}, seed {seed}": self.config(asked, arm, chosen[arm], seed)
            for arm in arms
            for seed in asked.seeds
        }
        runs = run_all(cells, folder, jobs, told)
        rows, curves = [], []
        for arm in arms:
            mine = [runs[f"{arm.name}, seed {seed}"] for seed in asked.seeds]
            whole = _with_search(arm, mine, trials)
            for seed, run in zip(asked.seeds, mine, strict=True):
                claim = Claim.of(run.privacy)
                said = {"chosen": " ".join(chosen[arm]), "digest": run.digest}
                said |= (claim.columns() | whole) if claim else {}
                rows.append({"arm": arm.name, "seed": seed, **self.row(run, arm), **said})
                curves.append(curve(run, arm.name, seed))
        table, shown = pd.DataFrame(rows), pd.concat(curves, ignore_index=True)
        return Measured(table, list(runs.values()), list(trials.values()), shown)

    def _search(
        self, asked: Asked, arms: tuple[Arm, ...], folder: Path, jobs: int, told: Told
    ) -> tuple[Mapping[str, Run], Mapping[Arm, tuple[str, ...]]]:
        trials = {
            _trial(arm, choice): (arm, choice)
            for arm in arms
            for choice in arm.choices
            if len(arm.choices) > 1
        }
        cells = {
            name: self.config(asked, arm, choice, SEARCH_SEED)
            for name, (arm, choice) in trials.items()
        }
        runs = run_those_that_can(cells, folder, jobs, told)
        for arm in dict.fromkeys(arm for arm, _ in trials.values()):
            if not any(name in runs for name, (whose, _) in trials.items() if whose == arm):
                raise FedsimError(
                    f"Every trial of '{arm.name}' failed, so it cannot be compared; begin with a "
                    "smaller lr in its grid."
                )
        chosen = {arm: arm.choices[0] for arm in arms}
        best: dict[Arm, tuple[float, ...]] = {}
        for name, (arm, choice) in trials.items():
            if name not in runs:
                continue
            score = self.score(runs[name], arm)
            if arm not in best or score > best[arm]:
                best[arm], chosen[arm] = score, choice
        return runs, chosen


def _trial(arm: Arm, choice: tuple[str, ...]) -> str:
    return f"search {arm.name}: {' '.join(choice)}"


def _with_search(
    arm: Arm, runs: Sequence[Run], trials: Mapping[str, Run]
) -> dict[str, float | str]:
    """What an arm's runs guarantee with its search, failed trials included; see `together`."""
    if Claim.of(runs[0].privacy) is None:
        return {}
    asked = [_trial(arm, choice) for choice in arm.choices if len(arm.choices) > 1]
    made = [trials[name] for name in asked if name in trials]
    return together(runs, made, failed=len(asked) - len(made))


def run_those_that_can(
    cells: Mapping[str, Config], folder: Path, jobs: int, told: Told
) -> dict[str, Run]:
    """As `run_all`, but a trial that fails, as at a learning rate that is too large, is left out.

    Raises FedsimError where none is left.
    """
    with Crew(folder, jobs) as crew:
        outcomes = crew.work(cells, told)
    failed = {name: said for name, said in outcomes.items() if isinstance(said, Exception)}
    for name, error in failed.items():
        if not isinstance(error, FedsimError):
            raise error
        told(f"{name}: training failed, not chosen", len(cells), len(cells))
    if failed and len(failed) == len(cells):
        raise FedsimError(f"All {len(cells)} trials failed: {next(iter(failed.values()))}")
    return {name: run for name in cells if isinstance(run := outcomes[name], Run)}


def validation(run: Run) -> pd.DataFrame:
    """The run's evaluations on validation users."""
    rows = run.evaluations
    return rows[rows["split"] == "validation"]


def curve(run: Run, arm: str, seed: int) -> pd.DataFrame:
    """Top-1 recall on validation users by round, with the columns `CURVE`."""
    rows = validation(run)
    out = pd.DataFrame({"round": rows["round"], "top1": rows.top1_recall})
    return out.assign(arm=arm, seed=seed)[list(CURVE)]
