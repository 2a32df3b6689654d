"""Audit a finished run: the subject that its folder describes, and the measures to take of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from fedsim.device import resolve_device
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.interrupts import held_back
from fedsim.leakage.audit import Audited, keep, kept, made_with, take
from fedsim.leakage.base import Measure, Subject
from fedsim.leakage.measures import MEASURES
from fedsim.options import validated
from fedsim.overrides import parse
from fedsim.privacy.claims import rounded_down, rounded_up
from fedsim.privacy.statement import as_text
from fedsim.provenance import changed_text
from fedsim.registry import nearest
from fedsim.runs import Run
from fedsim.steps import Heard, nobody
from fedsim.studies.audit_workers import (
    EVERY_S,
    MeasureProgress,
    Outcome,
    Watching,
    outcome,
    take_together,
)
from fedsim.studies.workbench import Bench

Told = Callable[[Audited], None]
Refused = Callable[[str, FedsimError], None]


def audit_run(
    run: Run,
    names: Sequence[str] = (),
    overrides: Sequence[str] = (),
    jobs: int = 0,
    told: Told = lambda _: None,
    refused: Refused | None = None,
    again: bool = False,
    watching: Watching = lambda _: None,
) -> list[Audited]:
    """Measure a finished run's model; the rows go to its table `leakage`, those behind them to
    its folder `audit`, each measure's as soon as it is done.

    What an earlier audit kept is not measured again, unless `again` asks for it or the measure's
    options, the model, its text, the code or the libraries are others: an audit that was stopped
    goes on with what is missing.

    names: of measures, by default all that train nothing. overrides: "measure.option=value".
    jobs: measures at a time, each in a process of its own; 0: one a core. told: of each as it ends.
    refused: is told of measures that cannot be taken of such a run; without it the first of them is
    raised, after the others were taken. watching: is told every second how far those are that are
    being taken. Returns them in the order of `names`. Raises FedsimError for a run that is not
    finished, or a text that was changed since.
    """
    measures = chosen(names, overrides)
    subject, round = subject_of(run), run.status["round"]
    found = _Found(run, told, refused)
    with run.locked():
        left = dict(measures)
        for name, measure in measures.items() if not again else ():
            before = kept(run, made_with(name, measure, subject, round))
            if before is not None:
                found.ended(name, before)
                del left[name]
        try:
            _take_all(run, subject, left, round, jobs, found.ended, watching)
        finally:
            with held_back():
                _put_in_order(run)
                run.export_tables()
    if found.errors and not refused:
        raise found.errors[0]
    return [found.done[name] for name in measures if name in found.done]


@dataclass
class _Found:
    """What came of each measure, kept in the run's folder as it comes."""

    run: Run
    told: Told
    refused: Refused | None
    done: dict[str, Audited] = field(default_factory=dict)
    errors: list[FedsimError] = field(default_factory=list)

    def ended(self, name: str, came: Outcome) -> None:
        """May be told of the same one twice."""
        if isinstance(came, FedsimError):
            self.errors.append(came)
            if self.refused:
                self.refused(name, came)
            return
        with held_back():
            if not came.kept:
                _tell_in_statement(self.run, came)
                keep(self.run, came)
            self.done[name] = came
            self.told(came)


def _put_in_order(run: Run) -> None:
    """The table's rows as the registry has the measures, whichever ended first."""
    table, places = run.table("leakage"), {name: place for place, name in enumerate(MEASURES)}
    place = table.measure.map(places).fillna(len(places))
    order = np.lexsort((place.to_numpy(float), table["round"].to_numpy()))
    if (np.diff(order) < 0).any():
        run.replace("leakage", table.iloc[order], ["round", "measure"])


def _tell_in_statement(run: Run, audited: Audited) -> None:
    """The bound of an attack on the mechanism belongs beside the epsilon that is proven."""
    said, rows = run.privacy, audited.table[audited.table.quantity == "epsilon_lower_bound"]
    if said is None or not said["guarantee"] or not len(rows):
        return
    proven = audited.table[audited.table.quantity == "epsilon_proven"].iloc[0]
    method = rows.group.iloc[0].removeprefix("method=")
    said["empirical"] = (
        f"epsilon >= {rounded_down(rows.estimate.iloc[0])} ({method}, 95 %) by an attack on audit "
        "runs of this mechanism, of which "
        f"{rounded_up(proven.estimate)} is proven"
    ) + (f", {proven.note}" if proven.note else "")
    run.save_statement(said, as_text(said))


def _take_all(
    run: Run,
    subject: Subject,
    measures: Mapping[str, Measure],
    round: int,
    jobs: int,
    ended: Callable[[str, Outcome], None],
    watching: Watching,
) -> None:
    """First those that train nothing, side by side, then one after another those that do, since
    their runs take all cores themselves."""
    alone = {name: m for name, m in measures.items() if m.trains or len(measures) == 1}
    together = {name: m for name, m in measures.items() if name not in alone}
    if together:
        take_together(_take, run.path, together, round, jobs, ended, watching)
    for name, measure in alone.items():
        with _watched(name, watching) as heard:
            taken = outcome(partial(take, name, measure, replace(subject, heard=heard), round))
        ended(name, taken)


@contextmanager
def _watched(name: str, watching: Watching) -> Iterator[Heard]:
    """For a measure in this process: who is told how far it is, and tells that once a second."""
    began = last = time.monotonic()

    def heard(share: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVERY_S:
            last = now
            watching([MeasureProgress(name, share, now - began)])

    watching([MeasureProgress(name, 0.0, 0.0)])
    yield heard
    watching([])


def _take(path: Path, name: str, measure: Measure, round: int, heard: Heard = nobody) -> Audited:
    """In a process of its own, on one core."""
    subject = replace(subject_of(Run.open(path)), heard=heard)
    return take(name, measure, subject, round)


def chosen(names: Sequence[str], overrides: Sequence[str]) -> dict[str, Measure]:
    """The measures of these names with their options; all that train nothing where none is named.

    An override of a measure that is not named is an error, since it would have no effect.
    """
    asked = list(names) or [name for name in MEASURES if not MEASURES[name].trains]
    options: dict[str, dict[str, object]] = {name: {} for name in asked if MEASURES[name]}
    for text in overrides:
        path, value = parse(text)
        if len(path) != 2:
            raise FedsimError(f"'{text}' is not an option; write it as measure.option=value.")
        if path[0] not in options:
            raise FedsimError(
                f"'{text}' has no effect here: '{path[0]}' is no measure that is taken; "
                f"{nearest(path[0], options)}"
            )
        options[path[0]][path[1]] = value
    return {name: validated(MEASURES[name], values, name) for name, values in options.items()}


def subject_of(run: Run) -> Subject:
    """The final model of a run, and what it was trained on."""
    config, model = run.config, run.model()
    federation = open_federation(config)
    text = f"The text of '{federation.corpus.name}'"
    if run.corpus_digest != federation.corpus.digest:
        raise FedsimError(
            f"{changed_text(text, run.path, run.provenance)}; restore it, or train the run anew."
        )
    participations = np.bincount(run.clients["user"], minlength=federation.users)
    device = resolve_device(config.engine.device)
    return Subject(model.to(device), config, federation, participations, config.seed, Bench())
