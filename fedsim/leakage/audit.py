"""Take one measure of a subject, keep what was found in its run's folder, and find it there."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from fedsim.device import threads
from fedsim.errors import FedsimError
from fedsim.leakage import scoring
from fedsim.leakage.base import Measure, Subject, tidy
from fedsim.parameters import Parameters
from fedsim.runs import Run
from fedsim.source import code_digest, libraries, module_digest
from fedsim.table_files import rows_text
from fedsim.tables import TABLES

FORMAT = 1  # of the record of a measure


@dataclass(frozen=True)
class Audited:
    """One measure that was taken.

    table: rows of `fedsim.tables.LEAKAGE`; details: the tables behind them. seconds: wall time;
    sentences: how many the model scored for it. broken: in what it contradicts a guarantee, at
    99.9 % confidence; else "". made_with: what decides all of that. kept: it was not taken now,
    but found in the run's folder.
    """

    name: str
    table: pd.DataFrame
    details: dict[str, pd.DataFrame]
    seconds: float
    sentences: int
    broken: str
    made_with: Mapping[str, Any] = field(default_factory=dict)
    kept: bool = False


def take(name: str, measure: Measure, subject: Subject, round: int) -> Audited:
    """Measure; `round` is how far the subject was trained. On one thread: the last bits of a score
    must not depend on the machine's cores, nor on how many measures are taken at a time."""
    made = made_with(name, measure, subject, round)  # before the source can be changed meanwhile
    began, before = time.monotonic(), scoring.scored()
    with threads(1):
        found = measure.measure(subject)
    table = tidy(name, measure, found, round)
    seconds, sentences = time.monotonic() - began, scoring.scored() - before
    return Audited(name, table, found.details, seconds, sentences, found.broken, made)


def made_with(name: str, measure: Measure, subject: Subject, round: int) -> dict[str, Any]:
    """What decides what a measure finds: its options, the model and its text, code and libraries.

    JSON-able, and equal where the same would be found.
    """
    took_part = np.ascontiguousarray(subject.participations, "<i8")
    bench = [] if subject.bench is None else [type(subject.bench).__module__]
    return {
        "format": FORMAT,
        "measure": name,
        "options": measure.model_dump(mode="json"),
        "model": Parameters.from_model(subject.model).digest(),
        "round": round,
        "config": subject.config.identity(),
        "seed": subject.seed,
        "text": subject.federation.corpus.digest,
        "participations": hashlib.sha256(took_part.tobytes()).hexdigest(),
        "code": [code_digest(), *map(module_digest, [type(measure).__module__, *bench])],
        "libraries": libraries(),
    }


def keep(run: Run, audited: Audited) -> None:
    """Put the rows into the run's table `leakage`, in place of those that it has of the same
    measure and round, and the details into its folder `audit`; `kept` finds both."""
    run.replace("leakage", audited.table, ["round", "measure"])
    for detail, rows in audited.details.items():
        run.save_detail(audited.name, detail, rows)
    record = {
        "made_with": audited.made_with,
        "rows": _digest(_rows(run, audited.name, audited.made_with["round"])),
        "details": sorted(audited.details),
        "seconds": audited.seconds,
        "sentences": audited.sentences,
        "broken": audited.broken,
    }
    run.save_measured(audited.name, record)  # last: it says that the rest is there


def kept(run: Run, made: Mapping[str, Any]) -> Audited | None:
    """What was found by what is `made_with` now; None where it was not, or is not whole."""
    name, record = made["measure"], run.measured(made["measure"])
    if record is None or record.get("made_with") != json.loads(json.dumps(made)):
        return None
    table = _rows(run, name, made["round"])
    if not len(table) or record.get("rows") != _digest(table):
        return None
    try:
        details = {detail: run.detail(name, detail) for detail in record["details"]}
        there = {detail: rows for detail, rows in details.items() if rows is not None}
        if len(there) < len(details):
            return None
        numbers = float(record["seconds"]), int(record["sentences"])
        table = table.fillna(
            {column: "" for column, kind in TABLES["leakage"].items() if kind == "str"}
        )
        return Audited(name, table, there, *numbers, str(record["broken"]), made, kept=True)
    except (FedsimError, KeyError, TypeError, ValueError):
        return None  # it is measured again, not mended


def _rows(run: Run, measure: str, round: int) -> pd.DataFrame:
    table = run.table("leakage")
    mine = (table.measure == measure) & (table["round"] == round)
    return table[mine].reset_index(drop=True)


def _digest(rows: pd.DataFrame) -> str:
    text = rows_text(rows.to_dict("records"), TABLES["leakage"])
    return hashlib.sha256(text.encode()).hexdigest()
