"""The membership attack of a comparison: one and the same on every run, whatever else was audited.

Its rows lie beside those of an audit, in a file of their own: an audit of the user may have had
other options, and neither takes the place of the other.
"""

from __future__ import annotations

from pathlib import Path

from fedsim.leakage.audit import take
from fedsim.leakage.base import Measure
from fedsim.runs import Run
from fedsim.studies.audit import chosen, subject_of

_NAME, _KEPT = "membership", "compared"  # audit/membership.compared.parquet

# Enough for an AUC, without the attacks that take the longest.
_OPTIONS = ("membership.neighbour_sentences=0",)


def attack(path: Path) -> None:
    """Attack the model of a finished run and keep what was found in its folder. Raises FedsimError
    for a run that cannot be attacked so."""
    run, measure = Run.open(path), _measure()
    with run.locked():
        found = take(_NAME, measure, subject_of(run), run.status["round"]).table
        run.save_detail(_NAME, _KEPT, found.assign(options=measure.model_dump_json()))


def membership(run: Run) -> float | None:
    """The AUC of the attack with a reference model on sentences; None where `attack` was not made
    with the options that it has now."""
    rows = run.detail(_NAME, _KEPT)
    if rows is None:
        return None
    mine = rows["options"] == _measure().model_dump_json()
    found = rows[mine & (rows.quantity == "auc") & (rows.group == "score=reference")].estimate
    return float(found.iloc[0]) if len(found) else None


def _measure() -> Measure:
    return chosen([_NAME], _OPTIONS)[_NAME]
