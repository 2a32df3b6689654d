"""The membership attack of a comparison: one and the same on every run, whatever else was audited.

Its rows lie beside those of an audit, in a file of their own: an audit of the user may have had
other options, and neither takes the place of the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.leakage.audit import take
from fedsim.leakage.base import Measure
from fedsim.leakage.groups import LEAST
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


def require_participants(configs: Iterable[Config]) -> None:
    """Raises FedsimError where in none of the runs enough users for the attack can take part.

    Only of samplers with cohorts of a known size, which coins have not.
    """
    servers = [config.server for config in configs]
    if any(server.sampler not in ("fixed", "cyclic") for server in servers):
        return
    largest = max(servers, key=lambda server: server.rounds * server.cohort)
    if largest.rounds * largest.cohort < LEAST:
        raise FedsimError(
            f"--leakage needs at least {LEAST} users that took part, and server.rounds = "
            f"{largest.rounds} of server.cohort = {largest.cohort} have at most "
            f"{largest.rounds * largest.cohort}; raise one of them, or leave --leakage out."
        )


def not_measured(errors: Sequence[str], runs: int) -> list[str]:
    """Why so many of the runs could not be attacked, a sentence for each reason; errors that differ
    in numbers alone are one, with the lowest and the highest of each."""
    alike: dict[tuple[str, ...], list[list[str]]] = {}
    for error in errors:
        parts = re.split(r"(\d+)", error.removeprefix("A membership attack "))
        alike.setdefault(tuple(parts[::2]), []).append(parts[1::2])
    said = []
    for words, numbers in alike.items():
        spans = [_span([int(n) for n in column]) for column in zip(*numbers, strict=True)]
        reason = "".join(map("".join, zip(words, [*spans, ""], strict=True)))
        said.append(f"Membership was not measured in {len(numbers)} of {runs} runs: {reason}")
    return said


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _measure() -> Measure:
    return chosen([_NAME], _OPTIONS)[_NAME]
