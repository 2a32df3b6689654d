"""What a tracker is told when a run begins, and what it does with the figures of each round."""

from __future__ import annotations

import importlib.util
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.privacy.claims import Claim
from fedsim.registry import Registry

OF_THIS_MACHINE = ("data.path", "pretrain.path", "engine.address")  # folders, with a user's name
OF_PEOPLE = ("data.drop_users",)  # names
STUDY_FOLDERS = ("cells", "runs")  # say nothing of which study


@dataclass(frozen=True)
class Story:
    """What a tracker is told of a run when it is opened.

    folder: the run's. parameters: the config as one value a key, see `parameters`, and of a private
    run what it guarantees as `privacy.claim`. known_as: what the tracker called the run when it was
    begun, where it was begun before; else "".
    """

    folder: Path
    project: str
    group: str
    parameters: Mapping[str, str | int | float | bool]
    known_as: str = ""

    @property
    def name(self) -> str:
        """Of the run."""
        return self.folder.name

    @classmethod
    def of(cls, folder: Path, config: Config, known_as: str, claim: Claim | None = None) -> Story:
        """The story of a run of `config` in `folder`; claim: what it guarantees."""
        folder, options = folder.resolve(), config.tracking
        group = options.group or _study(folder)
        told = parameters(config)
        if claim is not None:  # the budget among them says neither for whom nor against whom
            told["privacy.claim"] = claim.sentence()
        return cls(folder, options.project, group, told, known_as)


class Tracker(ABC):
    """One tool, open for one run. Whatever it raises, the run goes on without it.

    known_as: what the tool calls the run; a resumed run is told it again. where: what a person
    opens to see it. sent_until: the last round that the tool has of a resumed run, and is not sent
    again: the rounds that are made again have the same figures. -1: it wants all.
    """

    module: ClassVar[str]  # what has to be installed
    install: ClassVar[str]  # the command that does it
    sends: ClassVar[bool] = True  # off this machine, or so it may be set up

    known_as: str = ""
    where: str = ""
    sent_until: int = -1

    @classmethod
    def require(cls, name: str) -> None:
        """Raise FedsimError where the tool cannot be used here; before anything is trained."""
        found = importlib.util.find_spec(cls.module)
        if found is None or found.origin is None:  # a folder of that name is no package
            raise FedsimError(
                f"tracking.to names '{name}', which is not installed: run `{cls.install}`, or "
                "leave it out."
            )

    @abstractmethod
    def __init__(self, story: Story) -> None:
        """Begin the run in the tool, or go on with it."""

    @abstractmethod
    def send(self, step: int, values: Mapping[str, float]) -> None:
        """All figures of one round, once; steps ascend."""

    @abstractmethod
    def close(self, state: str) -> None:
        """The run is over: finished, interrupted or failed."""


TRACKERS: Registry[type[Tracker]] = Registry("tracker")


def parameters(config: Config) -> dict[str, str | int | float | bool]:
    """The config as `section.key` -> value, lists as JSON, without secrets and this machine's
    folders."""
    flat: dict[str, Any] = {}
    for section, values in config.as_dict().items():
        if section == "tracking":
            continue
        if not isinstance(values, Mapping):
            flat[section] = values
            continue
        for key, value in values.items():
            name = section if key == "name" else f"{section}.{key}"
            flat[name] = value if isinstance(value, str | int | float) else json.dumps(value)
    for name in ("data", "pretrain"):  # a recipe of one's own
        if str(flat[name]).endswith(".toml"):
            flat[name] = Path(flat[name]).name
    unsent = OF_THIS_MACHINE + OF_PEOPLE
    return {name: value for name, value in flat.items() if name not in unsent}


def without_login(text: str) -> str:
    """The text without the `user:password@` of the addresses in it."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


def _study(folder: Path) -> str:
    """The folder of the study that a run lies in; "" for a run of its own."""
    above = [parent.name for parent in folder.parents[:2]]
    if above[0] == "cells":
        return above[1]
    return "" if above[0] in STUDY_FOLDERS else above[0]
