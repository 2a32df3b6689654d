"""Take one measure of a subject, and keep what was found in its run's folder."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pandas as pd

from fedsim.device import threads
from fedsim.leakage import scoring
from fedsim.leakage.base import Measure, Subject, tidy
from fedsim.runs import Run


@dataclass(frozen=True)
class Audited:
    """One measure that was taken.

    table: rows of `fedsim.tables.LEAKAGE`; details: the tables behind them. seconds: wall time;
    sentences: how many the model scored for it. broken: in what it contradicts a guarantee, at
    99.9 % confidence; else "".
    """

    name: str
    table: pd.DataFrame
    details: dict[str, pd.DataFrame]
    seconds: float
    sentences: int
    broken: str


def take(name: str, measure: Measure, subject: Subject, round: int) -> Audited:
    """Measure; `round` is how far the subject was trained. On one thread: the last bits of a score
    must not depend on the machine's cores, nor on how many measures are taken at a time."""
    began, before = time.monotonic(), scoring.scored()
    with threads(1):
        found = measure.measure(subject)
    table = tidy(name, measure, found, round)
    seconds, sentences = time.monotonic() - began, scoring.scored() - before
    return Audited(name, table, found.details, seconds, sentences, found.broken)


def keep(run: Run, audited: Audited) -> None:
    """Put the rows into the run's table `leakage`, in place of those that it has of the same
    measure and round, and the details into its folder `audit`."""
    run.replace("leakage", audited.table, ["round", "measure"])
    for detail, rows in audited.details.items():
        run.save_detail(audited.name, detail, rows)
