"""Measure a model and keep what was found in its run's folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from fedsim.leakage import scoring
from fedsim.leakage.base import Measure, Subject, tidy
from fedsim.runs import Run


@dataclass(frozen=True)
class Audited:
    """One measure that is done. seconds: wall time; sentences: how many the model scored for it;
    broken: why the implementation must be wrong, where what was found contradicts a guarantee."""

    name: str
    table: pd.DataFrame
    seconds: float
    sentences: int
    broken: str


Told = Callable[[Audited], None]


def audit(
    run: Run, subject: Subject, measures: Mapping[str, Measure], round: int, told: Told
) -> list[Audited]:
    """Take the measures one after another; the rows of each are kept as soon as it is done.

    Rows that the run has of the same measure and round are replaced.
    """
    done = []
    for name, measure in measures.items():
        began, before = time.monotonic(), scoring.scored()
        findings = measure.measure(subject)
        table = tidy(name, measure, findings, round)
        run.replace("leakage", table, ["round", "measure"])
        for detail, rows in findings.details.items():
            run.save_detail(name, detail, rows)
        seconds, sentences = time.monotonic() - began, scoring.scored() - before
        done.append(Audited(name, table, seconds, sentences, findings.broken))
        told(done[-1])
    return done
