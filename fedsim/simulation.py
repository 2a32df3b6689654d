"""Run the two apps on an engine of this machine: the whole product behind one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from flwr.app import Context, RecordDict
from flwr.serverapp import Grid

from fedsim.config import Config, EngineOptions, load
from fedsim.device import resolve_device
from fedsim.engines.flower_compat import RUN_ID
from fedsim.engines.local import LocalGrid
from fedsim.engines.pool import PoolGrid
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.references import load as load_reference
from fedsim.report import write_report
from fedsim.runs import Run, new_run_folder

CLIENT_APP = "clients.app:app"
SERVER_APP = "server.app:app"


def simulate(
    config: Config | None = None, out: str | Path | None = None, quiet: bool = False
) -> Run:
    """Train a federation and return its run; without arguments the default preset.

    `out` is the run's folder, which must not exist; by default a new one in `runs/`.
    Raises FedsimError for bad input; KeyboardInterrupt leaves a run that `resume` continues.
    """
    config = config or load()
    check(config)
    folder = Path(out) if out is not None else new_run_folder(config.strategy.name)
    if folder.exists():
        raise FedsimError(f"{folder} exists; choose another folder, or `resume {folder}`.")
    settings: dict[str, str | bool] = {
        "config": config.as_json(),
        "run": str(folder.resolve()),
        "quiet": quiet,
    }
    return _serve(config.engine, folder, settings)


def resume(path: str | Path, quiet: bool = False, engine: EngineOptions | None = None) -> Run:
    """Continue an interrupted run from its newest checkpoint; the result is that of an unbroken
    one. `engine` may name another engine or number of workers: they do not change the result. The
    device stays what it was."""
    run = Run.open(path)
    if run.status["state"] == "finished":
        raise FedsimError(f"{path} is finished; there is nothing to resume.")
    check(run.config)
    settings: dict[str, str | bool] = {
        "run": str(run.path.resolve()),
        "resume": True,
        "quiet": quiet,
    }
    return _serve(engine or run.config.engine, run.path, settings)


def check(config: Config) -> None:
    """Find out what only an open corpus tells, before a run folder exists."""
    federation = open_federation(config)
    for split in ("validation", "test"):
        if not len(federation.corpus.split(split)):
            raise FedsimError(
                f"'{federation.corpus.name}' has no {split} users to score the model on; raise "
                f"split.{split} in its recipe."
            )
    population = len(federation.population)
    if config.server.cohort > population:
        raise FedsimError(
            f"server.cohort = {config.server.cohort} is more than the {population} users that "
            "take part; lower it."
        )
    resolve_device(config.engine.device)


def _serve(engine: EngineOptions, folder: Path, settings: Mapping[str, str | bool]) -> Run:
    context = Context(
        run_id=RUN_ID, node_id=0, node_config={}, state=RecordDict(), run_config=dict(settings)
    )
    with open_grid(engine) as grid:
        load_reference(SERVER_APP)(grid=grid, context=context)
    run = Run.open(folder)
    write_report(run)
    return run


@contextmanager
def open_grid(engine: EngineOptions) -> Iterator[Grid]:
    """The engine as a Flower grid, closed at the end."""
    grid: LocalGrid | PoolGrid
    grid = LocalGrid(CLIENT_APP) if engine.name == "local" else PoolGrid(CLIENT_APP, engine.workers)
    try:
        yield grid
    finally:
        grid.close()
