"""Audit a finished run: the subject that its folder describes, and the measures to take of it."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np

from fedsim.device import available_cores, resolve_device
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.interrupts import NUMBERS
from fedsim.leakage.audit import Audited, keep, take
from fedsim.leakage.base import Measure, Subject
from fedsim.leakage.measures import MEASURES
from fedsim.options import validated
from fedsim.overrides import parse
from fedsim.privacy.claims import rounded_down, rounded_up
from fedsim.privacy.statement import as_text
from fedsim.provenance import changed_text
from fedsim.registry import nearest
from fedsim.runs import Run
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
) -> list[Audited]:
    """Measure a finished run's model; the rows go to its table `leakage`, those behind them to
    its folder `audit`, each measure's as soon as it is done.

    names: of measures, by default all that train nothing. overrides: "measure.option=value".
    jobs: measures at a time, each in a process of its own; 0: one a core. refused: is told of
    measures that cannot be taken of such a run; without it the first of them is raised, after
    the others were taken. Raises FedsimError for a run that is not finished, or a text that was
    changed since.
    """
    measures = chosen(names, overrides)
    subject, round = subject_of(run), run.status["round"]
    done, errors = [], []
    with run.locked():
        for name, audited in _taken(run, subject, measures, round, jobs):
            if isinstance(audited, FedsimError):
                errors.append(audited)
                if refused:
                    refused(name, audited)
                continue
            keep(run, audited)
            _tell_in_statement(run, audited)
            done.append(audited)
            told(audited)
        run.export_tables()
    if errors and not refused:
        raise errors[0]
    return done


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


def _taken(
    run: Run, subject: Subject, measures: Mapping[str, Measure], round: int, jobs: int
) -> Iterator[tuple[str, Audited | FedsimError]]:
    """The measures in their order: first those that train nothing, then one after another those
    that do, since their runs take all cores themselves."""
    alone = {name: m for name, m in measures.items() if m.trains or len(measures) == 1}
    together = {name: m for name, m in measures.items() if name not in alone}
    if together:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs or available_cores(), spawn, _leave_to_main) as pool:
            tasks = {n: pool.submit(_take, run.path, n, m, round) for n, m in together.items()}
            try:
                for name, task in tasks.items():  # in this order, whichever ends first
                    yield name, _or_error(task.result)
            except BaseException:  # Ctrl-C: nobody waits for the rest
                processes = list((pool._processes or {}).values())
                pool.shutdown(wait=False, cancel_futures=True)
                for process in processes:
                    process.kill()
                raise
    for name, measure in alone.items():
        yield name, _or_error(partial(take, name, measure, subject, round))


def _or_error(taken: Callable[[], Audited]) -> Audited | FedsimError:
    try:
        return taken()
    except FedsimError as error:
        return error
    except BrokenProcessPool:
        return FedsimError("Its process was killed, likely for want of memory; try --jobs 1.")


def _leave_to_main() -> None:
    """What a terminal sends to all is the main process's to handle."""
    for number in (number for number in NUMBERS if number != signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _take(path: Path, name: str, measure: Measure, round: int) -> Audited:
    """In a process of its own, on one core."""
    return take(name, measure, subject_of(Run.open(path)), round)


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
