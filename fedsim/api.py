"""The Python interface: runs from presets and settings as Python has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedsim import config as configs
from fedsim import simulation
from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.overrides import Given
from fedsim.profile import Profile
from fedsim.report import write_report
from fedsim.runs import Run
from fedsim.sections import EngineOptions
from fedsim.watching import Listener

Preset = str | Path | Mapping[str, Any] | Config


def load_config(preset: Preset = "default", *settings: Given, **sections: Any) -> Config:
    """A config: a preset with settings on top of it, the later ones last.

    preset: the name of one that ships, a TOML file, or a config that is to be changed. settings:
    "section.key=value" as on the command line, one or many, or dicts: {"server.rounds": 3},
    {"server": {"rounds": 3}}. sections: the same as keywords: seed=2, model="lstm-small",
    server={"rounds": 3}, server__rounds=3.

    Raises FedsimError for an unknown preset, an unknown or effect-less key, or a bad value.
    """
    explicit: list[Any] = [*settings, {k.replace("__", "."): v for k, v in sections.items()}]
    if isinstance(preset, Mapping) or (isinstance(preset, str) and "=" in preset):
        preset, explicit = "default", [preset, *explicit]
    if isinstance(preset, Config):
        return configs.changed(preset, explicit)
    if not isinstance(preset, str | Path):
        raise FedsimError(f"{preset!r} is no preset; name one, such as 'default'.")
    return configs.load(str(preset), explicit)


def simulate(
    preset: Preset | None = None,
    *settings: Given | Path,
    out: str | Path | None = None,
    quiet: bool = False,
    until: int | None = None,
    progress: Listener | None = None,
    **sections: Any,
) -> Run:
    """Train a federation and return its run.

    preset, settings, sections: see `load_config`; nothing is the preset "default". out: the run's
    folder, which must not exist; by default a new one in `runs/`. quiet: nothing on stderr.
    until: a round after which the run is paused, for `resume`. progress: called after each round
    with a `fedsim.watching.RoundProgress`; what it raises stops the run. report.html is written at
    the end.

    Raises FedsimError for bad input; KeyboardInterrupt leaves a run that `resume` continues.
    """
    folders = [given for given in settings if isinstance(given, Path)]
    explicit = [given for given in settings if not isinstance(given, Path)]
    if len(folders) > 1 or (folders and out is not None):
        raise FedsimError("A run has one folder: give it once, as out=FOLDER.")
    if isinstance(preset, Config) and not explicit and not sections:
        config = preset  # as it is: what it leaves open stays so
    else:
        config = load_config("default" if preset is None else preset, *explicit, **sections)
    folder = out or next(iter(folders), None)
    return _with_report(simulation.simulate(config, folder, quiet, until, progress))


def resume(
    path: str | Path,
    quiet: bool = False,
    engine: EngineOptions | None = None,
    until: int | None = None,
    progress: Listener | None = None,
) -> Run:
    """Continue an interrupted or paused run from its newest checkpoint; the result is that of an
    unbroken one.

    path: the run's folder. engine: another one, or another number of workers, from now on: they
    do not change the result. quiet, until, progress: see `simulate`.

    Raises FedsimError where there is nothing to resume.
    """
    return _with_report(simulation.resume(path, quiet, engine, until, progress))


def _with_report(run: Run) -> Run:
    """The run, with its page; one that is paused has not seen the test users and gets none."""
    if run.status["state"] != "paused":
        profile = Profile()
        with profile.part("report"):
            write_report(run)
        run.add_profile(profile)
    return run


def suggest(run: Run, text: str, count: int = 3) -> list[tuple[str, float]]:
    """What the keyboard of a finished run offers for `text`: (word, probability) pairs.

    A word without a space behind it is being typed. `fedsim.suggesting.suggest` says more.
    """
    from fedsim.data.segment import spaced
    from fedsim.suggesting import suggest as suggested

    data = run.config.data
    cut = spaced(text, data.segment)
    return list(suggested(run.model(), run.vocabulary(), cut, count, data.text).offers)
