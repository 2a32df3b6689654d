"""The Flower ServerApp: builds a run from its context, trains, scores, and writes the record.

The context's run config carries scalars only: `config` (a resolved config as JSON) and `run` (the
folder), as our engines pass them; `settings`, the name of a file on the server that holds these; or
`preset`, `overrides` and `out` of `flwr run`.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedsim.config import Config, from_dict, load
from fedsim.device import resolve_device
from fedsim.divergence import diverged
from fedsim.engines.wire import to_record
from fedsim.errors import FedsimError
from fedsim.evaluation import latency
from fedsim.federation import Federation, open_federation
from fedsim.interrupts import held_back
from fedsim.leakage.first_corpus import FirstCorpus
from fedsim.models import build, initialise
from fedsim.models.contract import check_agreement
from fedsim.models.flat import resolve_kernel
from fedsim.models.native.build import built_with
from fedsim.parameters import Parameters
from fedsim.privacy import noise_keys
from fedsim.privacy.noise_keys import NoiseKey
from fedsim.profile import Profile
from fedsim.progress import Reporter, say
from fedsim.provenance import provenance
from fedsim.runs import Run, new_run_folder
from fedsim.seeding import torch_stream
from fedsim.showing import one_line
from fedsim.tracking import Tracking, require
from server.baselines import baselines
from server.optimizers import OPTIMIZERS
from server.pretraining import first_corpus, pretrained
from server.privacy import (
    key_of,
    mechanism_of,
    new_key,
    nothing_guaranteed,
    resolved,
    what_is_guaranteed,
    write_statement,
)
from server.recording import Recorder, released_model, scores_row, suggestion_rows, user_rows
from server.state import ServerState, sealed
from server.strategies import STRATEGIES

MANY_CANARY_USERS = 0.25  # share of the population

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One run from its context, new or resumed."""
    profile = Profile()
    settings = _settings(context.run_config)
    resumed = bool(settings.get("resume", False))
    quiet = bool(settings.get("quiet", False))
    until = int(str(settings.get("until", 0)))
    with profile.part("data"):
        if resumed:
            run = Run.open(str(settings["run"]))
            config = run.config
            run.require_format()
            federation = open_federation(config)
            first = first_corpus(config, federation)
            key = key_of(run, config, federation, first)
        else:
            config, kernel = _on_this_machine(_config_of(settings))
            require(config)
            if not settings.get("run"):  # else who started it has tried the model
                check_agreement(config.model.name, config.model.options)
            federation = open_federation(config)
            given, config = config, resolved(config, federation)
            corpus, first = federation.corpus, first_corpus(config, federation)
            if not quiet and not settings.get("run"):  # else who started it has said it
                say(what_is_guaranteed(config, federation, given))
            folder = str(settings.get("run") or settings.get("out") or _folder_at_home())
            key = new_key(config, federation, first)
            made_from = provenance(corpus.name, corpus.digest, kernel) | _said_of(first)
            made_from |= _said_of_noise(config, key)
            run = Run.create(folder, config, made_from)
            if key.kind == "fresh":
                noise_keys.keep(key, run.path)
    with run.locked():  # outside: who finds the lock taken must not touch the status
        try:
            _run(grid, run, config, federation, first, key, resumed, quiet, profile, until)
        except BaseException as error:
            # The newest state was saved by `_run`; what is left is to say how it ended.
            stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            text = "" if stopped else str(error) or type(error).__name__
            state = "interrupted" if stopped else "failed"
            with held_back(), suppress(FedsimError):  # on a full disk `error` says more
                run.set_status(state, run.status["round"], error=text)
            raise
        finally:
            with held_back(), suppress(FedsimError):
                run.add_profile(profile)


def _settings(told: Any) -> Any:
    """What the app is told: the run config itself, or what lies in the file that it names.

    Flower forwards the run config to every client. On a deployment it holds a name only, and the
    file is where the SuperLink's own environment says.
    """
    name = str(told.get("settings", ""))
    if not name:
        return told
    path = Path(os.environ.get("FEDSIM_SETTINGS", "")) / f"{Path(name).name}.json"
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError):
        raise FedsimError(
            f"The settings of this run are not in {path}: the SuperLink was started by another "
            "version of fedsim, or elsewhere; `deploy down`, then `deploy up` again."
        ) from None
    path.unlink(missing_ok=True)  # they are in the run's folder from now on
    return settings


def _said_of(first: FirstCorpus | None) -> dict[str, Any]:
    """The first corpus in a run's provenance."""
    if first is None:
        return {}
    about = {"name": first.name, "digest": first.digest, "unknown_share": first.unknown}
    found = first.overlap.as_dict() if first.overlap else None
    return {"first_corpus": about, "first_corpus_overlap": found}


def _said_of_noise(config: Config, key: NoiseKey) -> dict[str, Any]:
    """Which key the noise is drawn from, in a run's provenance, without telling it."""
    if not hasattr(config.privacy.options, "noise"):
        return {}
    return {"noise": {"kind": key.kind, "id": key.id}}


def _folder_at_home() -> Path:
    """Of `flwr run`, which has no folder of the user's to write to."""
    return new_run_folder("flower", Path.home() / "fedsim-runs")


def _config_of(settings: Any) -> Config:
    if settings.get("config"):
        return from_dict(json.loads(str(settings["config"])))
    preset, out = str(settings.get("preset", "default")), str(settings.get("out", ""))
    overrides = shlex.split(str(settings.get("overrides", "")))
    paths = {"out": out, "preset": preset if preset.endswith(".toml") else ""}
    for key, _, value in (override.partition("=") for override in overrides):
        section, _, option = key.partition(".")
        a_recipe = option in ("", "name") and value.endswith(".toml")
        if section in ("data", "pretrain") and (option == "path" or a_recipe):
            paths[key] = value
    for key, path in paths.items():
        if path and not Path(path).is_absolute():
            raise FedsimError(
                f"{key} = '{path}' is not an absolute path: `flwr run` starts the app in the "
                "folder where the SuperLink was started."
            )
    return load(preset, overrides)


def _on_this_machine(config: Config) -> tuple[Config, str]:
    """'auto' made definite: a run keeps its device and its kernel, since their arithmetic is part
    of the result. With the kernel in words, and why it is not the native one."""
    device = resolve_device(config.engine.device)
    kernel, reason = resolve_kernel(config.engine.kernel, config.model.options, device)
    engine = config.engine.model_copy(update={"device": str(device), "kernel": kernel})
    said = f"PyTorch ({reason})" if reason else f"the native kernel ({built_with()})"
    return replace(config, engine=engine), said


def _run(
    grid: Grid,
    run: Run,
    config: Config,
    federation: Federation,
    first: FirstCorpus | None,
    key: NoiseKey,
    resumed: bool,
    quiet: bool,
    profile: Profile,
    until: int,
) -> None:
    with profile.part("data"):
        problems: list[str] = []
        state = initial_state(config, federation)
    resumed = resumed and (first is None or run.begun)  # else it was stopped while it pretrained
    if resumed:
        if run.corpus_digest != federation.corpus.digest:
            raise FedsimError(
                f"The text of '{federation.corpus.name}' was changed after {run.path} began; "
                "restore it, or start a new run."
            )
        if run.provenance.get("first_corpus", {}) != _said_of(first).get("first_corpus", {}):
            raise FedsimError(
                f"The text of the first corpus was changed after {run.path} began; restore it, or "
                "start a new run."
            )
        round, arrays, problems = run.rewind()
        state = state.restored(round, sealed(arrays, key, round))
        run.set_status("running", round)
    reporter = Reporter(config.server.rounds, state.round, quiet, run.path)
    for problem in problems:
        reporter.say(f"{problem} Using the checkpoint of round {state.round} instead.")
    reporter.say(f"Clients train with {run.provenance.get('kernel', config.engine.kernel)}")
    if nothing := nothing_guaranteed(config):
        run.log(nothing)
    if federation.audit.users:
        reporter.say(
            f"AUDIT RUN: {federation.audit.users} audit users send random directions "
            "(audit.update_canaries). Give nobody its model."
        )
    for notice in _canary_notices(config, federation):
        reporter.say(notice)
    if first is not None and not resumed:
        with profile.part("pretraining"):
            layout = state.parameters.layout
            start = pretrained(config, federation, first, layout, reporter)
            state = initial_state(config, federation, start)
    with profile.part("record"):
        write_statement(run, config, federation, state, first)  # which the trackers are told
    tracking = Tracking(run, config, reporter.say)
    recorder = Recorder(run, config, federation, state, reporter, profile, key, first, tracking)
    made = STRATEGIES[config.strategy.name]
    strategy = made(config, federation, state, recorder, profile, run.path, key)
    timeout = config.server.timeout_s
    try:
        with profile.part("record"):
            recorder.checkpoint()  # from here on there is something to resume
            recorder.begun(state)
        del state  # a model or two, which nobody needs once there is a newer one
        rounds = until or config.server.rounds
        strategy.start(grid, to_record(strategy.state.parameters), rounds, timeout)
        with profile.part("record"):
            recorder.checkpoint()
        if until:
            with held_back():
                run.set_status("paused", strategy.state.round)
            tracking.paused()
            return
        users = federation.scored("test", config.evaluation.users, config.seed)
        reporter.say(f"Scoring {len(users)} unseen test users")
        test_users = strategy.evaluate(grid, "test", timeout)
        with profile.part("record"):
            finish(run, config, federation, strategy.state, test_users, reporter, profile, first)
            strategy.finished()
            noise_keys.forget(key.id)
            tracking.finished(run)
    except FedsimError:
        with suppress(FedsimError):  # the first sentence says more: a full disk fails twice
            recorder.checkpoint()
        tracking.close("failed")
        raise
    except BaseException as error:
        recorder.checkpoint()
        tracking.close("failed" if isinstance(error, Exception) else "interrupted")
        raise
    finally:
        reporter.close()


def _canary_notices(config: Config, federation: Federation) -> Iterator[str]:
    """What is worth knowing of the canary users before anything is trained."""
    planted, limit = federation.planted, config.canaries.max_share
    there = sum(canary.users > 0 for canary in planted.canaries)
    if planted.left_out:
        yield (
            f"{there} of {there + planted.left_out} canaries are planted, so that their holders "
            f"are at most {limit:.0%} of the users that train; canaries.max_share=1 plants all."
        )
    share = planted.users / len(federation.population)
    if share > MANY_CANARY_USERS:
        yield (
            f"{share:.0%} of the users that train are synthetic ones that hold canaries: scores "
            "and exposure describe mostly them; lower canaries.max_share."
        )


def initial_state(
    config: Config, federation: Federation, start: Parameters | None = None
) -> ServerState:
    """The state before round 1: a model drawn from the seed, or the parameters to start with."""
    parameters = _drawn(config, federation) if start is None else start
    optimizer = OPTIMIZERS[config.optimizer.name](config.optimizer.options)
    strategy = STRATEGIES[config.strategy.name]
    return ServerState(
        round=0,
        parameters=parameters,
        optimizer=optimizer.initial_state(parameters.layout.size),
        average=parameters.copy() if config.server.average else None,
        participations=np.zeros(federation.users, np.int32),
        mechanism=mechanism_of(config, federation).initial_state(parameters.layout.size),
        strategy=strategy.initial_state(parameters.layout.size, federation.users),
    )


def _drawn(config: Config, federation: Federation) -> Parameters:
    model = build(config.model.options, len(federation.corpus.vocabulary))
    initialise(model, config.model.options, torch_stream(config.seed, "init"))
    return Parameters.from_model(model)


def finish(
    run: Run,
    config: Config,
    federation: Federation,
    state: ServerState,
    test_users: pd.DataFrame,
    reporter: Reporter,
    profile: Profile,
    first: FirstCorpus | None = None,
) -> None:
    """Save the model, score the baselines on the same users, write the final tables."""
    corpus = federation.corpus
    released = state.released
    digest = released.digest()
    run.save_model(dict(released.items()), list(corpus.vocabulary.words), digest)
    with profile.part("evaluation"):
        model = released_model(config, federation, state)
        speed = {f"latency_{k}": v for k, v in latency(model).items()}
        run.append("suggestions", suggestion_rows(model, corpus.vocabulary.words, config.data.text))
        del model
    federated = {"parameters": released.layout.size, "model_bytes": released.nbytes, **speed}
    with profile.part("baselines"):
        others = baselines(config, federation, reporter)
    rows = [(config.strategy.name, test_users, federated), *others]
    for name, users, columns in rows:
        run.append("results", [{"model": name, **scores_row(users), **columns}])
        run.append("users", user_rows(name, users))
    run.export_tables()
    write_statement(run, config, federation, state, first)
    run.set_status("finished", state.round, digest=digest)
    if said := diverged(run):
        run.log(said)
        reporter.say(said)
    reporter.say(f"model {digest[:16]}  {one_line(run.path)}")
