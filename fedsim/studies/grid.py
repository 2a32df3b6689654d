"""Many runs of one study: each in a folder named by its config, several at a time, resumable."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedsim.checkpoints import rounds_kept
from fedsim.config import Config
from fedsim.device import available_cores
from fedsim.errors import FedsimError
from fedsim.interrupts import held_back
from fedsim.runs import Run
from fedsim.sections import EngineOptions
from fedsim.simulation import resume, simulate
from fedsim.studies.texts import Texts
from fedsim.studies.workers import new_pool, stop_all, stoppable, wait_for_all

# One process trains one cell: no time is lost at the ends of rounds. It changes no result.
_ALONE = {"name": "local", "workers": 0, "address": ""}

# What a study takes from earlier calls; others go on, and say themselves what keeps them from it.
_KEPT = ("finished", "paused", "failed")

Train = Callable[[Config, Path], None]  # a function of a module, for it goes to other processes
Told = Callable[[str, int, int], None]  # a cell is done: its name, how many are, of how many
Outcomes = dict[str, Run | Exception]


def run_all(
    cells: Mapping[str, Config], folder: Path, jobs: int, told: Told, train: Train | None = None
) -> dict[str, Run]:
    """Run every cell that is not finished yet, `jobs` at a time (0: one a core).

    `train` makes a cell's run, by default federated training; another one needs another folder,
    since a cell's name does not tell what made it. Cells are cached by the identity of their
    config, so the same study again, or a larger one, trains only what is missing. Raises
    FedsimError for the first cell that fails, after the cells that were running; what is finished
    stays.
    """
    with Crew(folder, jobs, train) as crew:
        outcomes = crew.work(cells, told, go_on=False, retry=True)
    for name, outcome in outcomes.items():
        if isinstance(outcome, FedsimError):
            raise FedsimError(f"The cell '{name}' failed: {outcome}")
        if isinstance(outcome, Exception):
            raise outcome
    return {name: run for name in cells if isinstance(run := outcomes[name], Run)}


def folder_of(config: Config, folder: Path) -> Path:
    """Where a cell's run lies."""
    return folder / "cells" / config.identity()[:16]


class Crew:
    """The processes that train a study's cells in `folder`, kept from one stage to the next."""

    def __init__(self, folder: Path, jobs: int, train: Train | None = None) -> None:
        """jobs, train: see `run_all`."""
        self.folder, self.jobs, self._train = folder, jobs or available_cores(), train
        self._texts = Texts()
        self._pool: Executor | None = None
        self._workers = 0

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception):
            self._dismiss()
            return
        with held_back():  # after a Ctrl-C or a scheduler's stop, which may come twice
            stop_all()
            self._dismiss()

    def path(self, config: Config) -> Path:
        """The folder of a cell's run."""
        return folder_of(config, self.folder)

    def work(
        self,
        cells: Mapping[str, Config],
        told: Told,
        until: Mapping[str, int] | None = None,
        go_on: bool = True,
        retry: bool = False,
    ) -> Outcomes:
        """Each cell's run, or why it has none; the others go on where one fails.

        until: the round after which a cell is paused, see `simulate`. go_on: else nothing new is
        begun after the first failure. retry: train those again that failed before; else their
        error is the outcome, since the same config would fail in the same way on the same text.
        Raises FedsimError where the text of a cell that is taken from an earlier call, failed ones
        included, was changed since, before anything is trained.
        """
        rounds = until or {}
        paths = {name: self.path(config) for name, config in cells.items()}
        outcomes: Outcomes = {}
        tasks: dict[Path, tuple[Config, int | None]] = {}
        for name, path in paths.items():
            run = _begun(path)
            if run and run.status["state"] in _KEPT:
                self._texts.check(run, cells[name])
            said = _outcome(run, rounds.get(name))
            if said is None or (retry and isinstance(said, Exception)):
                tasks[path] = (cells[name], rounds.get(name))
            else:
                outcomes[name] = said
        given = {path: (self._train, config, path, r) for path, (config, r) in tasks.items()}
        for path, error in self.each(_make, given):
            for name in [name for name in cells if paths[name] == path]:
                outcomes[name] = error or Run.open(path)
                told(name, len(outcomes), len(cells))
            if error and not go_on:
                break  # what was begun ends when the crew is dismissed
        return outcomes

    def each(
        self, does: Callable[..., None], tasks: Mapping[Any, tuple[Any, ...]]
    ) -> Iterator[tuple[Any, Exception | None]]:
        """Call `does` with each task's arguments, as many at a time as there are jobs; yields the
        task's key and its error as they end.

        A process that is killed takes the others of its pool along: what they had is done again,
        one at a time, so that the task that kills its process is the only one that fails of it.
        """
        waiting, workers, retried = dict(tasks), self.jobs, False
        while waiting:
            pool = self._open(workers)
            futures: dict[Future[None], Any] = {}
            broken = False
            try:
                for key, given in waiting.items():
                    with held_back():  # as in `_dismiss`: it starts the processes
                        future = pool.submit(stoppable, does, *given)
                    futures[future] = key
            except BrokenProcessPool:  # already, before all of them were submitted
                broken = True
            for future in as_completed(futures):
                error = _error(future)
                if isinstance(error, BrokenProcessPool):
                    broken = True
                    continue
                del waiting[futures[future]]
                yield futures[future], error
            if broken:
                self._dismiss()
                if retried:
                    killer = next(iter(waiting))  # tasks are taken in their order
                    del waiting[killer]
                    yield killer, FedsimError("Its process was killed, likely for want of memory.")
                workers, retried = 1, True

    def _open(self, workers: int) -> Executor:
        if self._pool is None or workers != self._workers:
            self._dismiss()
            self._pool, self._workers = new_pool(workers), workers
        return self._pool

    def _dismiss(self) -> None:
        if self._pool is not None:
            with held_back():  # an executor that is interrupted loses count of its processes
                self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
            wait_for_all()


def _error(future: Future[None]) -> Exception | None:
    try:
        future.result()
    except Exception as error:
        return error
    return None


def _begun(path: Path) -> Run | None:
    """None where a process was killed before there was a run to speak of."""
    if not all((path / f"{name}.json").is_file() for name in ("config", "status", "provenance")):
        return None
    return Run.open(path)


def _outcome(run: Run | None, until: int | None) -> Run | FedsimError | None:
    """What earlier calls made of a cell; None where there is something to do."""
    if run is None:
        return None
    state, round = run.status["state"], run.status["round"]
    if state == "finished" or (state == "paused" and until is not None and round >= until):
        return run
    return FedsimError(str(run.status.get("error", ""))) if state == "failed" else None


def _make(train: Train | None, config: Config, path: Path, until: int | None) -> None:
    """One cell, in a process of its own."""
    if train is not None:
        train(config, path)
        return
    engine = EngineOptions(**{**config.engine.model_dump(), **_ALONE})
    if rounds_kept(path / "checkpoints"):
        resume(path, quiet=True, engine=engine, until=until)
        return
    if path.exists():  # from a process that was killed before there was anything to go on from
        with Run(path).locked():
            shutil.rmtree(path)
    simulate(replace(config, engine=engine), path, quiet=True, until=until)
