"""What each private cell of a comparison guarantees: one run, and one run with its search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.privacy.claims import Claim
from fedsim.runs import Run
from fedsim.studies.cells import Cell
from server.privacy import mechanism_of


def guarantees(
    outcomes: Mapping[tuple[Cell, int], Run | Exception], trials: Mapping[Cell, int]
) -> pd.DataFrame:
    """One row a cell with a mechanism, from its first finished run; see `Comparison.privacy`.

    trials: of the search of each cell that had one. They saw the same users as the run, so that
    the epsilon of both together composes one run more than there are trials. A trial that was
    stopped early counts as a whole run, which can only make it larger.
    """
    rows: dict[Cell, dict[str, Any]] = {}
    for (cell, _), outcome in outcomes.items():
        if cell in rows or not isinstance(outcome, Run) or outcome.config.privacy.name == "none":
            continue
        rows[cell] = dict(cell.columns) | _of(outcome, trials.get(cell, 0))
    return pd.DataFrame(list(rows.values()))


def _of(run: Run, trials: int) -> dict[str, Any]:
    claim = Claim.of(run.privacy)
    row = {"mechanism": run.config.privacy.name, "epsilon": math.nan, "trials": trials,
           "epsilon_with_search": math.nan, "note": ""}  # fmt: skip
    if claim is None:
        return row | {"note": "no guarantee: there is no noise that would give one"}
    row |= claim.columns()
    if not trials:
        return row | {"epsilon_with_search": claim.epsilon}
    try:
        together = _together(run, trials + 1)
    except FedsimError as error:
        return row | {"note": f"no composition with the search is computable: {error}"}
    if not math.isfinite(together):
        return row | {"note": "no composition with the search is computable"}
    return row | {"epsilon_with_search": together}


def _together(run: Run, runs: int) -> float:
    config = run.config
    noise = getattr(config.privacy.options, "noise_multiplier", 0.0)
    found = mechanism_of(config, open_federation(config)).guarantee(
        noise, config.server.rounds, runs
    )
    return found.epsilon if found else math.inf
