"""The comparison of strategies: every cell tuned alike, then trained with several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from fedsim.config import Config
from fedsim.device import available_cores
from fedsim.errors import FedsimError
from fedsim.progress import say
from fedsim.runs import Run
from fedsim.simulation import check
from fedsim.studies.attack import attack, membership, not_measured, require_participants
from fedsim.studies.cell_store import publish
from fedsim.studies.cells import Cell, Plan
from fedsim.studies.comparison import Comparison, Target, assemble
from fedsim.studies.frontier import SEARCH_SEED
from fedsim.studies.grid import Crew
from fedsim.studies.guarantees import guarantees
from fedsim.studies.ledger import Ledger, Said
from fedsim.studies.origin import cost_of, origin
from fedsim.studies.server_optimizers import server_optimizers
from fedsim.studies.tuning import (
    Search,
    Values,
    budget,
    score_at,
    search_of,
    selects_privately,
    trial_config,
)
from server.privacy import nothing_guaranteed

Chosen = dict[Cell, Values | FedsimError]


@dataclass(frozen=True)
class Study:
    """What is asked for. trials: of each cell's search, 0 for none; target: a share,
    ALL_REACH or None; leakage: whether membership is attacked too; retry: train failed cells
    again."""

    plan: Plan
    seeds: tuple[int, ...]
    trials: int = 0
    target: Target = None
    leakage: bool = False
    retry: bool = False

    def checked(self) -> list[Cell]:
        """The cells. Raises FedsimError where one of them asks for what is not allowed, the ends
        of its search ranges included: before anything is trained."""
        if self.trials == 1:
            raise FedsimError("--tune 1 leaves nothing to choose; give 2 or more, or leave it out.")
        if self.plan.ranges and not self.trials:
            raise FedsimError("--range has no effect without --tune; add it, as --tune 8.")
        cells, told = self.plan.cells(), lru_cache(say)  # a line that cells share is said once
        for cell in cells:
            config = self.plan.config(cell, self.seeds[0])
            check(config, told)
            if config.privacy.name != "none" and (nothing := nothing_guaranteed(config)):
                told(nothing)
            ranges = self.plan.searched(cell) if self.trials else {}
            for end in ("low", "high"):
                self.plan.config(cell, SEARCH_SEED, {k: getattr(ranges[k], end) for k in ranges})
        self.plan.check_ranges(cells)
        if self.leakage:
            require_participants(self.plan.config(cell, self.seeds[0]) for cell in cells)
        return cells

    def cost(self, cells: Sequence[Cell]) -> str:
        """What will be trained, in a sentence; cells whose configs are the same count once."""
        configs = {cell: self.plan.config(cell, SEARCH_SEED) for cell in cells}
        distinct = {config.identity(): cell for cell, config in configs.items()}
        rounds = [configs[cell].server.rounds for cell in distinct.values()]
        runs = len(distinct) * len(self.seeds)
        said = f"{runs} run{'s' * (runs > 1)}, {sum(rounds) * len(self.seeds):,} rounds"
        searched = [c for c in distinct.values() if self.trials and self.plan.searched(c)]
        if not searched:
            return said
        spent = sum(_spent(self.trials, configs[cell]) for cell in searched)
        about = "about " if any(selects_privately(configs[cell]) for cell in searched) else ""
        trials = len(searched) * self.trials
        return f"{said}; before them {about}{trials} trials, {about}{spent:,} rounds"


def _spent(trials: int, config: Config) -> int:
    """Rounds that a search of so many trials trains, in expectation where it is private."""
    rounds = config.server.rounds
    return trials * rounds if selects_privately(config) else budget(trials, rounds)


def run_study(study: Study, folder: Path, jobs: int, said: Said) -> Comparison:
    """Train what is missing in `folder` and return all that was measured.

    Cells that fail are listed as such and the others go on; failed ones are not trained again
    without `retry`. Raises FedsimError before anything is trained where a cell is not allowed.
    """
    cells = study.checked()
    with Crew(folder, jobs) as crew:
        searches = _searches(study, cells, folder)
        ledger = Ledger(*_left(study, cells, searches), said)
        trials = _tune(study, cells, searches, crew, ledger)
        chosen = {cell: _choice(searches.get(cell)) for cell in cells}
        outcomes = _runs(study, chosen, crew, ledger)
        missed = _attack(outcomes, crew, said) if study.leakage else []
    runs, curves, target = assemble(outcomes, study.target, study.leakage)
    finished = {o.path: o for o in outcomes.values() if isinstance(o, Run)}
    for run in finished.values():
        publish(run, folder)  # again: it was attacked since
    private = {path for cell, mine in trials.items() if searches[cell].mean for path in mine}
    told = {path: run for mine in trials.values() for path, run in mine.items()}
    told = {path: run for path, run in told.items() if path not in private}
    made = _made(study, cells, searches, list(finished.values()), told, crew.jobs)
    return Comparison(
        axes=tuple(axis for axis, _ in study.plan.axes),
        strategies=study.plan.strategies,
        seeds=study.seeds,
        target=target,
        runs=runs,
        curves=curves,
        chosen=_chosen_rows(searches, chosen),
        trials=pd.DataFrame(
            [dict(s.cell.columns) | row for s in _open(searches).values() for row in s.rows]
        ),
        made=made | {"not_measured": missed},
        privacy=guarantees(
            outcomes,
            {cell: list(mine.values()) for cell, mine in trials.items()},
            {cell: search.mean for cell, search in searches.items()},
            {cell: len(s.designed) - len(trials[cell]) for cell, s in searches.items()},
        ),
    )


def _open(searches: Mapping[Cell, Search]) -> dict[Cell, Search]:
    """Those whose trials may be told of: what is told of a private selection is its choice."""
    return {cell: search for cell, search in searches.items() if not search.mean}


def _searches(study: Study, cells: Sequence[Cell], folder: Path) -> dict[Cell, Search]:
    if not study.trials:
        return {}
    found = {cell: search_of(study.plan, cell, study.trials, folder) for cell in cells}
    return {cell: search for cell, search in found.items() if search is not None}


def _left(study: Study, cells: Sequence[Cell], searches: Mapping[Cell, Search]) -> tuple[int, int]:
    """How many trainings are still to come, of trials and then of all runs, and their rounds."""
    rounds = sum(study.plan.config(cell, 1).server.rounds for cell in cells)
    left = [search.left() for search in searches.values()]
    return (
        len(cells) * len(study.seeds) + sum(steps for steps, _ in left),
        rounds * len(study.seeds) + sum(rounds for _, rounds in left),
    )


def _tune(
    study: Study,
    cells: Sequence[Cell],
    searches: Mapping[Cell, Search],
    crew: Crew,
    ledger: Ledger,
) -> dict[Cell, dict[Path, Run]]:
    """Run all searches in step; returns the trials' runs of each cell.

    How much there is to do is counted anew at each stage: trials fail, and stopped ones come back.
    """
    runs: dict[Cell, dict[Path, Run]] = {cell: {} for cell in searches}
    while any(search.due for search in searches.values()):
        ledger.expect(*_left(study, cells, searches))
        configs: dict[str, Config] = {}
        until: dict[str, int] = {}
        more: dict[str, int] = {}
        whose: dict[str, tuple[Cell, int]] = {}
        for cell, search in searches.items():
            for trial, round in search.due.items():
                name = f"tuning {cell.name}: trial {trial} to round {round}"
                configs[name] = trial_config(study.plan, cell, search.designed[trial], trial)
                until[name], more[name] = round, round - search.rows[trial]["rounds"]
                whose[name] = (cell, trial)
        outcomes = crew.work(configs, ledger.stage(more), until, retry=study.retry)
        scores: dict[Cell, dict[int, float | None]] = {cell: {} for cell in searches}
        for name, outcome in outcomes.items():
            cell, trial = whose[name]
            scores[cell][trial] = None
            if isinstance(outcome, Run):
                runs[cell][outcome.path] = outcome
                scores[cell][trial] = score_at(outcome, until[name])
        for cell, search in searches.items():
            if search.due:
                search.tell(scores[cell])
    return runs


def _choice(search: Search | None) -> Values | FedsimError:
    """What a cell is trained with; an error where its search found nothing."""
    if search is None:
        return {}
    return search.chosen or FedsimError("Every trial of its search failed; widen or move --range.")


def _runs(
    study: Study, chosen: Chosen, crew: Crew, ledger: Ledger
) -> dict[tuple[Cell, int], Run | Exception]:
    cells: dict[str, Config] = {}
    whose: dict[str, tuple[Cell, int]] = {}
    out: dict[tuple[Cell, int], Run | Exception] = {}
    for cell, values in chosen.items():
        for seed in study.seeds:
            if isinstance(values, FedsimError):
                out[cell, seed] = values
                continue
            name = f"{cell.name}, seed {seed}"
            cells[name], whose[name] = study.plan.config(cell, seed, values), (cell, seed)
    rounds = {name: config.server.rounds for name, config in cells.items()}
    ledger.expect(
        len(rounds), sum(rounds.values())
    )  # a cell whose search found nothing has no runs
    outcomes = crew.work(cells, ledger.stage(rounds), retry=study.retry)
    out |= {whose[name]: outcome for name, outcome in outcomes.items()}
    return {(cell, seed): out[cell, seed] for cell in chosen for seed in study.seeds}


def _attack(
    outcomes: Mapping[tuple[Cell, int], Run | Exception], crew: Crew, said: Said
) -> list[str]:
    """Attack membership in the runs that were not attacked so yet; returns why where it cannot."""
    finished = [o.path for o in outcomes.values() if isinstance(o, Run)]  # of cells that are one
    runs = {o.path: key for key, o in outcomes.items() if isinstance(o, Run)}
    waiting = {path: (path,) for path in runs if membership(Run.open(path)) is None}
    missed: list[str] = []
    for done, (path, error) in enumerate(crew.each(attack, waiting), 1):
        cell, seed = runs[path]
        name = f"membership in {cell.name}, seed {seed}"
        said(name, done, len(waiting), 0.0)
        if error:
            missed += [str(error) or type(error).__name__] * finished.count(path)
    return not_measured(missed, len(finished))


def _chosen_rows(searches: Mapping[Cell, Search], chosen: Chosen) -> pd.DataFrame:
    rows = []
    for cell, search in searches.items():
        values = chosen[cell]
        if isinstance(values, FedsimError):
            continue
        for key, range in search.ranges.items():
            about = {"key": key, "low": range.low, "high": range.high, "value": values[key]}
            rows.append(dict(cell.columns) | about)
    return pd.DataFrame(rows)


def _made(
    study: Study,
    cells: Sequence[Cell],
    searches: Mapping[Cell, Search],
    runs: Sequence[Run],
    trials: Mapping[Path, Run],
    jobs: int,
) -> dict[str, Any]:
    """What a reproducibility checklist asks."""
    config = study.plan.config(cells[0], study.seeds[0])
    private_cells = [search.cell.name for search in searches.values() if search.mean]
    made = origin(config, runs)
    return made | {
        **cost_of(runs, list(trials.values()), made),
        "cores": available_cores(),
        "jobs": jobs,
        "seeds": list(study.seeds),
        "preset": study.plan.preset,
        "server_optimizers": server_optimizers(study.plan, cells),
        "overrides": list(study.plan.overrides),
        "config": config.as_dict(),  # of the first cell
        "tuning": {
            "trials": study.trials,
            "seed": SEARCH_SEED,
            "rounds": {s.cell.name: list(s.rungs) for s in _open(searches).values()},
            **({"private": private_cells} if private_cells else {}),
        }
        if study.trials
        else None,
        "ranges": {
            cell.name: {key: str(range) for key, range in search.ranges.items()}
            for cell, search in searches.items()
        },
    }
