"""Many runs of one study: each in a folder named by its config, several at a time, resumable."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

from fedsim.config import Config, EngineOptions
from fedsim.device import available_cores
from fedsim.errors import FedsimError
from fedsim.runs import Run
from fedsim.simulation import resume, simulate

# One process trains one cell: no time is lost at the ends of rounds. It changes no result.
_ALONE = {"name": "local", "workers": 0, "address": ""}

Train = Callable[[Config, Path], None]  # a function of a module, for it goes to other processes
Told = Callable[[str, int, int], None]  # a cell is done: its name, how many are, of how many


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
    paths = {name: folder_of(config, folder) for name, config in cells.items()}
    missing = {paths[name]: cells[name] for name in cells if not _finished(paths[name])}
    done = len(cells) - sum(paths[name] in missing for name in cells)
    failed: FedsimError | None = None
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs or available_cores(), spawn) as pool:
        running: dict[Future[None], Path] = {
            pool.submit(train or _train, config, path): path for path, config in missing.items()
        }
        try:
            for future in as_completed(running):
                names = [name for name in cells if paths[name] == running[future]]
                try:
                    future.result()
                except (FedsimError, BrokenProcessPool) as error:
                    failed = failed or FedsimError(f"The cell '{names[0]}' failed: {error}")
                    for waiting in running:
                        waiting.cancel()
                    break
                for name in names:
                    done += 1
                    told(name, done, len(cells))
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    if failed:
        raise failed
    return {name: Run.open(path) for name, path in paths.items()}


def folder_of(config: Config, folder: Path) -> Path:
    """Where a cell's run lies."""
    return folder / "cells" / config.identity()[:16]


def _finished(path: Path) -> bool:
    return (path / "status.json").is_file() and Run.open(path).status["state"] == "finished"


def _train(config: Config, path: Path) -> None:
    engine = EngineOptions(**{**config.engine.model_dump(), **_ALONE})
    if (path / "status.json").is_file():
        resume(path, quiet=True, engine=engine)
    else:
        simulate(replace(config, engine=engine), path, quiet=True)
