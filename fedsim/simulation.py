"""Run the two apps on an engine: the whole product behind one call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedsim.config import Config, load
from fedsim.device import resolve_device
from fedsim.errors import EngineLost, FedsimError
from fedsim.federation import open_federation
from fedsim.memory import require_memory
from fedsim.models.contract import check_agreement
from fedsim.models.flat import resolve_kernel
from fedsim.paths import check_new
from fedsim.profile import Profile
from fedsim.program import command
from fedsim.progress import say, silent
from fedsim.references import load as load_reference
from fedsim.runs import Run, new_run_folder
from fedsim.sections import EngineOptions
from fedsim.watching import Listener, listening
from server.pretraining import first_corpus
from server.privacy import nothing_guaranteed, resolved, what_is_guaranteed

CLIENT_APP = "clients.app:app"
SERVER_APP = "server.app:app"

# Name -> the function that runs both apps until the server's ends.
ENGINES = {
    "local": "fedsim.engines.local:serve",
    "pool": "fedsim.engines.pool:serve",
    "ray": "fedsim.engines.ray:serve",
    "deploy": "fedsim.deploy.submit:serve",
}


def simulate(
    config: Config | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
    until: int | None = None,
    progress: Listener | None = None,
) -> Run:
    """Train a federation and return its run; without arguments the default preset.

    `out` is the run's folder, which must not exist; by default a new one in `runs/`. `until` is a
    round after which the run is scored on validation users and paused: `resume` goes on with the
    same bits. A run that is paused has not seen the test users, even after its last round.
    `progress` is called after each round with a `fedsim.watching.RoundProgress`.
    Raises FedsimError for bad input; KeyboardInterrupt leaves a run that `resume` continues.
    """
    profile = Profile()
    config = config or load()
    folder = Path(out) if out is not None else new_run_folder(config.strategy.name)
    check_new(folder)
    if folder.exists():
        raise FedsimError(
            f"{folder} exists; choose another folder, or `{command('resume', folder)}`."
        )
    with profile.part("data"):
        check(config, silent if quiet else say)
        if not quiet:
            say_guarantee(config, say)
    told = {"config": config.as_json(), "quiet": quiet, **_where_to(folder, until, config)}
    _require_here(config.engine, progress)
    with listening(folder, progress):
        return _serve(config.engine, folder, told, profile)


def resume(
    path: str | Path,
    quiet: bool = False,
    engine: EngineOptions | None = None,
    until: int | None = None,
    progress: Listener | None = None,
) -> Run:
    """Continue an interrupted or paused run from its newest checkpoint; the result is that of an
    unbroken one. `engine` may name another engine or number of workers: they do not change the
    result. The device stays what it was. `until`, `progress`: see `simulate`."""
    profile = Profile()
    run = Run.open(path)
    if run.status["state"] == "finished":
        raise FedsimError(f"{path} is finished; there is nothing to resume.")
    with profile.part("data"):
        check(run.config, silent if quiet else say)
        if not quiet and (nothing := nothing_guaranteed(run.config)):
            say(nothing)
    told = {"resume": True, "quiet": quiet}
    settings = {**told, **_where_to(run.path, until, run.config)}
    engine = engine or run.config.engine
    _require_here(engine, progress)
    with listening(run.path, progress):
        return _serve(engine, run.path, settings, profile)


def _require_here(engine: EngineOptions, progress: Listener | None) -> None:
    """Raises FedsimError where the server's rounds are not in this process."""
    if progress is not None and engine.name == "deploy":
        raise FedsimError(
            "A progress callback is called where the server runs, and engine 'deploy' runs it in "
            "another process; read the run's table `rounds` meanwhile."
        )


def say_guarantee(config: Config, notice: Callable[[str], None]) -> None:
    """Tell what a new run of a checked config guarantees, before anything is trained."""
    federation = open_federation(config)
    notice(what_is_guaranteed(resolved(config, federation), federation, config))


def check(config: Config, notice: Callable[[str], None] = silent) -> None:
    """Find out what only an open corpus tells, before a run folder exists.

    `notice` takes a line about what takes seconds.
    """
    federation = open_federation(config)
    for split in ("validation", "test"):
        if not len(federation.corpus.split(split)):
            raise FedsimError(
                f"'{federation.corpus.name}' has no {split} users to score the model on; raise "
                f"split.{split} in its recipe."
            )
    if federation.corpus.shard and (config.evaluation.trigram or config.evaluation.central):
        raise FedsimError(
            f"{federation.corpus.folder} is a shard, and the baselines need everybody's text; set "
            "evaluation.trigram=false evaluation.central=false."
        )
    population = len(federation.population)
    if config.server.cohort > population:
        raise FedsimError(
            f"server.cohort = {config.server.cohort} is more than the {population} users that "
            "train, canary users among them (other people choose and test the model); lower it, "
            f"to server.cohort={max(1, population // 2)} say."
        )
    first_corpus(config, federation)
    resolved(config, federation, notice)
    check_agreement(config.model.name, config.model.options)
    if config.privacy.name == "dp-sgd":
        from clients.private_contract import check_private  # Opacus, which nothing else needs

        check_private(config.model.name, config.model.options)
    device = resolve_device(config.engine.device)
    resolve_kernel(config.engine.kernel, config.model.options, device)
    if config.engine.name != "deploy" and not config.engine.address:  # else on other machines
        require_memory(config, len(federation.corpus.vocabulary))


def _serve(engine: EngineOptions, folder: Path, settings: dict[str, Any], profile: Profile) -> Run:
    """Run both apps on the engine, on a new one where it is lost."""
    serve = load_reference(ENGINES[engine.name])
    lost_at = -1
    before = Run(folder).profile["wall_seconds"]
    while True:
        try:
            with profile.part("start"):
                serve(SERVER_APP, CLIENT_APP, settings, engine)
            break
        except EngineLost as lost:
            round = Run.open(folder).status["round"]
            if round <= lost_at:
                raise FedsimError(
                    f"Round {round + 1} failed twice: {lost}; try fewer --workers, then "
                    f"`{command('resume', folder)}`."
                ) from None
            lost_at = round
            settings = {k: v for k, v in settings.items() if k != "config"} | {"resume": True}
    run = Run.open(folder)
    # The ServerApp has told of its own time: what is left is that of the engine around it.
    profile.seconds["start"] -= run.profile["wall_seconds"] - before
    run.add_profile(profile)
    return run


def _where_to(folder: Path, until: int | None, config: Config) -> dict[str, Any]:
    """The part of the ServerApp's settings that says where it writes, and how far it goes."""
    settings: dict[str, Any] = {"run": str(folder.resolve())}
    if until is None:
        return settings
    if not 1 <= until <= config.server.rounds:
        raise FedsimError(
            f"A run of {config.server.rounds} rounds cannot be paused after round {until}; name "
            "one of them."
        )
    return {**settings, "until": until}
