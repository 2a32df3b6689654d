"""Whether a run folder is as its run left it: asked whenever one is opened, by every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedsim.errors import FedsimError
from fedsim.tables import TABLES

if TYPE_CHECKING:
    from fedsim.runs import Run

_ALWAYS = ("config.json", "status.json", "provenance.json")
_SOMETIMES = ("privacy.json", "profile.json")


def require_sound(run: Run) -> None:
    """Raise FedsimError for the first file of the run that cannot be what the run wrote."""
    there = [name for name in _SOMETIMES if (run.path / name).is_file()]
    for name in (*_ALWAYS, *there):
        run.read_json(name)
    status = run.status
    if not run.checksums.require():
        _require_consistent(run, status["state"] == "finished", status["round"])


def _require_consistent(run: Run, finished: bool, done: int) -> None:
    """Of a folder without checksums: what it holds can be read, and its parts go together."""
    strategy = run.config.strategy.name
    tables = {name: run.table(name) for name in TABLES}
    models, rounds = tables["results"].model, tables["rounds"]["round"].to_numpy()
    if finished and not len(models):
        _refuse(run, "results", "it is empty, and the run is finished")
    federated = finished and strategy in models.tolist()  # else central training, without rounds
    if not np.array_equal(rounds, np.arange(1, (done if federated else len(rounds)) + 1)):
        _refuse(run, "rounds", f"it does not hold the rounds 1 to {done}")


def _refuse(run: Run, table: str, reason: str) -> None:
    raise FedsimError(
        f"{run.path / table}.csv is damaged ({reason}); restore it from a copy, or train the run "
        "anew."
    )
