"""What each private cell of a comparison guarantees: one run, its search, and all its seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fedsim.errors import FedsimError
from fedsim.privacy.claims import Claim
from fedsim.privacy.events import Event, events_from
from fedsim.privacy.selection import costs_less, search_and_runs, select
from fedsim.runs import Run
from fedsim.studies.cells import Cell

_MISSING = {"epsilon_with_search": math.nan, "epsilon_of_all": math.nan, "theorem": "",
            "theorem_of_all": ""}  # fmt: skip


def guarantees(
    outcomes: Mapping[tuple[Cell, int], Run | Exception],
    trials: Mapping[Cell, Sequence[Run]],
    means: Mapping[Cell, int],
    failed: Mapping[Cell, int],
) -> pd.DataFrame:
    """One row a cell with a mechanism that has a finished run; see `Comparison.privacy`.

    trials: the runs of the cell's search, which saw the same users. means: of their number where
    the search was a private selection, else 0. A trial that was stopped early counts as a whole
    run, which can only make epsilon larger; so do those that `failed`: that they did tells too.
    """
    runs: dict[Cell, list[Run]] = {}
    for (cell, _), outcome in outcomes.items():
        if isinstance(outcome, Run) and outcome.config.privacy.name != "none":
            runs.setdefault(cell, []).append(outcome)
    rows = [
        dict(cell.columns)
        | _of(mine, trials.get(cell, ()), means.get(cell, 0), failed.get(cell, 0))
        for cell, mine in runs.items()
    ]
    return pd.DataFrame(rows)


def _of(runs: Sequence[Run], trials: Sequence[Run], mean: int, failed: int) -> dict[str, Any]:
    """The row of a cell from its runs, one for each seed, and those of its search.

    trials: how many there were; where they stay secret, which `private` says, how many in the mean.
    """
    claim = Claim.of(runs[0].privacy)
    row = {"mechanism": runs[0].config.privacy.name, "epsilon": math.nan,
           "trials": mean or len(trials) + failed, "private": bool(mean), **_MISSING,
           "note": ""}  # fmt: skip
    if claim is None:
        return row | {"note": "no guarantee: there is no noise that would give one"}
    row |= claim.columns()
    try:
        if mean and not _selects(runs, mean):
            row |= {"trials": len(trials) + failed, "private": False}
            mean = 0
        row |= together(runs, trials, mean, failed)
    except FedsimError as error:
        return row | {"note": f"no composition with the search is computable: {error}"}
    return row


def together(
    runs: Sequence[Run], trials: Sequence[Run], mean: int = 0, failed: int = 0
) -> dict[str, float | str]:
    """What runs of one cell, which differ in their seed, guarantee with the `trials` before them.

    epsilon_with_search: of the search and one run; epsilon_of_all: and the runs of all seeds; by
    which theorem ("" where nothing is composed); the same two with own_ for the run's own users,
    where the noise of a larger population is simulated. mean: of the trials, for private selection;
    0 for composition. failed: see `guarantees`.
    """
    out = _together(runs, trials, mean, failed, own=False)
    if _simulated(runs):
        own = _together(runs, trials, mean, failed, own=True)
        out |= {f"own_{name}": own[name] for name in ("epsilon_with_search", "epsilon_of_all")}
    return out


def _selects(runs: Sequence[Run], mean: int) -> bool:
    """Whether all figures of a cell are by private selection, or all by composition.

    Both could be right, each for itself, but a composition is made of the number of trials, which
    private selection must keep secret.
    """
    for own in (False, True) if _simulated(runs) else (False,):
        each, delta = [_events(run, own) for run in runs], float(_guarantee(runs[0], own)["delta"])
        every = [event for mine in each for event in mine]
        if not own and not costs_less(each[0], mean, each[0], delta):
            return False
        if select(each[0], mean, each[0], delta) is None:
            return False
        if select(each[0], mean, every, delta) is None:
            return False
    return True


def _simulated(runs: Sequence[Run]) -> bool:
    claim = Claim.of(runs[0].privacy)
    return claim is not None and claim.simulated_users is not None


def _together(
    runs: Sequence[Run], trials: Sequence[Run], mean: int, failed: int, own: bool
) -> dict[str, float | str]:
    each = [_events(run, own) for run in runs]
    searched = [_events(trial, own) for trial in trials]
    # One that failed counts as a whole run: as those beside it, else as the cell's own.
    searched += failed * [searched[0] if searched else each[0]]
    delta = float(_guarantee(runs[0], own)["delta"])
    first = search_and_runs(each[0], searched, mean, each[0], delta)
    every = search_and_runs(each[0], searched, mean, [e for mine in each for e in mine], delta)
    search = bool(searched or mean)
    return {"epsilon_with_search": first.epsilon, "epsilon_of_all": every.epsilon,
            "theorem": first.accountant if search else "",
            "theorem_of_all": every.accountant if search or len(runs) > 1 else ""}  # fmt: skip


def _events(run: Run, own: bool) -> tuple[Event, ...]:
    return events_from(_guarantee(run, own)["events"])


def _guarantee(run: Run, own: bool) -> Mapping[str, Any]:
    """That of a run's users, or of the larger population whose noise it simulates."""
    said = run.privacy or {}
    found = (said.get("own") or said).get("guarantee") if own else said.get("guarantee")
    if not found or "events" not in found:
        raise FedsimError(f"{run.path} does not say what its guarantee is made of.")
    return found
