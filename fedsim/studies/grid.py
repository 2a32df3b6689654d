"""Many runs of one study: cells of the common cache, several trained at a time, resumable."""

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
from fedsim.studies.cell_store import CellStore, Train, alone, publish, readable
from fedsim.studies.workers import new_pool, stop_all, stoppable, wait_for_all

# One process trains one cell: no time is lost at the ends of rounds. It changes no result.
_ALONE = {"name": "local", "workers": 0, "address": ""}

Told = Callable[[str, int, int], None]  # a cell is done: its name, how many are, of how many
Outcomes = dict[str, Run | Exception]


def run_all(
    cells: Mapping[str, Config],
    folder: Path | None,
    jobs: int,
    told: Told,
    train: Train | None = None,
) -> dict[str, Run]:
    """Run every cell that is not finished yet, `jobs` at a time (0: one a core).

    `train` makes a cell's run, by default federated training. Cells lie in the cache that all
    studies share (`cell_store`), so the same study again, or another one with the same cells,
    trains only what is missing. folder: of the study, which gets copies of them; None for none.
    Raises FedsimError for the first cell that fails, after the cells that were running; what is
    finished stays.
    """
    with Crew(folder, jobs, train) as crew:
        outcomes = crew.work(cells, told, go_on=False, retry=True)
    for name, outcome in outcomes.items():
        if isinstance(outcome, FedsimError):
            raise FedsimError(f"The cell '{name}' failed: {outcome}")
        if isinstance(outcome, Exception):
            raise outcome
    return {name: run for name in cells if isinstance(run := outcomes[name], Run)}


class Crew:
    """The processes that train a study's cells, kept from one stage to the next."""

    def __init__(self, folder: Path | None, jobs: int, train: Train | None = None) -> None:
        """folder, jobs, train: see `run_all`."""
        self.folder, self.jobs, self._train = folder, jobs or available_cores(), train
        self._store = CellStore(train)
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
        error is the outcome: the same config fails in the same way on the same text.
        """
        rounds = until or {}
        paths = {name: self._store.path(config) for name, config in cells.items()}
        outcomes: Outcomes = {}
        tasks: dict[Path, tuple[Config, int | None]] = {}
        for name, path in paths.items():
            said = _outcome(self._store.found(path), rounds.get(name))
            if said is None or (retry and isinstance(said, Exception)):
                tasks[path] = (cells[name], rounds.get(name))
            else:
                outcomes[name] = self._shown(said)
        given = {path: (self._train, config, path, r) for path, (config, r) in tasks.items()}
        for path, error in self.each(_make, given):
            for name in [name for name in cells if paths[name] == path]:
                outcomes[name] = error or self._shown(Run.open(path))
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

    def _shown(self, outcome: Run | FedsimError) -> Run | FedsimError:
        """The outcome; a run that is finished has its copy in the study's folder from now on."""
        if self.folder and isinstance(outcome, Run) and outcome.status["state"] == "finished":
            publish(outcome, self.folder)
        return outcome

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


def _outcome(run: Run | None, until: int | None) -> Run | FedsimError | None:
    """What earlier calls made of a cell; None where there is something to do."""
    if run is None:
        return None
    state, round = run.status["state"], run.status["round"]
    if state == "finished" or (state == "paused" and until is not None and round >= until):
        return run
    return FedsimError(str(run.status.get("error", ""))) if state == "failed" else None


def _make(train: Train | None, config: Config, path: Path, until: int | None) -> None:
    """One cell, in a process of its own, unless another study makes it meanwhile."""
    with alone(path):
        run = readable(path)
        if isinstance(_outcome(run, until), Run):
            return
        engine = EngineOptions(**{**config.engine.model_dump(), **_ALONE})
        if run and train is None and rounds_kept(path / "checkpoints"):
            resume(path, quiet=True, engine=engine, until=until)
            return
        shutil.rmtree(path, ignore_errors=True)  # of a process that was killed, or damaged
        if train is not None:
            train(config, path)
        else:
            config = replace(config, engine=engine)
            simulate(config, path, quiet=True, until=until)
