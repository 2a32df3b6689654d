"""What a leakage measure is, what it is given, and the tidy rows that it returns."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np
import pandas as pd

from fedsim.config import Config
from fedsim.data.sequences import Sequences
from fedsim.errors import FedsimError
from fedsim.federation import Federation
from fedsim.models.base import LanguageModel
from fedsim.options import Options
from fedsim.parameters import Parameters
from fedsim.registry import Registry
from fedsim.runs import Run
from fedsim.steps import Heard, Steps, nobody
from fedsim.tables import LEAKAGE

NAN = math.nan


class Workbench(Protocol):
    """What a measure may ask of the rooms above it."""

    def train(self, cells: Mapping[str, Config], heard: Heard = nobody) -> Mapping[str, Run]:
        """Federated runs of these configs, by name: cached and resumable; `heard` is told what
        share of their rounds is done."""

    def updates(
        self, parameters: Parameters, texts: Sequence[Sequences], config: Config
    ) -> list[np.ndarray]:
        """What a client with each of these texts would send at `parameters`, float32 (size,):
        the change of the model that its strategy makes of it, before any mechanism."""


@dataclass(frozen=True)
class Subject:
    """A global model, and what it was trained on.

    participations (federation.users,): completed rounds of each user by id, canary users last.
    seed: of the measure's own draws, beside the purpose that it names. heard: is told what share
    of a measure is done.
    """

    model: LanguageModel
    config: Config
    federation: Federation
    participations: np.ndarray
    seed: int
    bench: Workbench | None = None
    heard: Heard = nobody

    def steps(self, **phases: float) -> Steps:
        """A measure's phases by name, with how long each takes beside the others."""
        return Steps(phases, self.heard)

    @cached_property
    def members(self) -> np.ndarray:
        """Real users that took part at least once, ascending."""
        return self._trainable[self.participations[self._trainable] > 0]

    @cached_property
    def nonmembers(self) -> np.ndarray:
        """Real users who could have taken part and never did, ascending.

        They are exchangeable with the members: drawn from the same people, and the vocabulary was
        built from both. Test users are not: words that only they typed are not in it.
        """
        return self._trainable[self.participations[self._trainable] == 0]

    def require_people(self) -> None:
        """Raises FedsimError where a user's text is not that of one person."""
        if self.config.federation.partition == "iid":
            raise FedsimError(
                "Under federation.partition = 'iid' everybody's sentences were dealt out to all "
                "users, so nobody took part alone; audit a run with federation.partition=user."
            )

    @property
    def _trainable(self) -> np.ndarray:
        train = self.federation.corpus.split("train")
        return np.arange(train.start, train.stop)


@dataclass(frozen=True)
class Finding:
    """One measured figure with its 95 % interval.

    quantity: what was estimated, with its unit where it has one ("auc", "exposure_bits").
    group: of whom or of what ("users=4 repeats=10", "score=min-k", "prefix=5").
    n: the number of independent units behind it; interval: the method of low and high.
    control: the same quantity where nothing can have leaked; NaN where there is none.
    note: what a reader must know before quoting it ("at the ceiling", "not resolvable").
    """

    quantity: str
    estimate: float
    group: str = ""
    n: int = 0
    low: float = NAN
    high: float = NAN
    interval: str = ""
    control: float = NAN
    note: str = ""


@dataclass(frozen=True)
class Findings:
    """What a measure found. `details` are tables behind it, by name (ROC curves, sentences).

    broken: a sentence where what was found contradicts, at 99.9 % confidence, what is guaranteed.
    """

    rows: list[Finding]
    details: dict[str, pd.DataFrame] = field(default_factory=dict)
    broken: str = ""


class Measure(Options, ABC):
    """A leakage measure; its fields are its options.

    A new one is one file in `fedsim/leakage/measures` and one line in that room's `__init__`.
    """

    title: ClassVar[str]  # what a report calls it
    threat: ClassVar[str]  # who the adversary is and what it holds
    meaning: ClassVar[str]  # two plain sentences: what its numbers say to a newcomer
    trains: ClassVar[bool] = False  # whether it needs runs of its own: minutes instead of seconds

    @abstractmethod
    def measure(self, subject: Subject) -> Findings:
        """Raises FedsimError where the subject cannot be measured so; it says what to change."""


MEASURES: Registry[type[Measure]] = Registry("leakage measure")


def tidy(name: str, measure: Measure, findings: Findings, round: int) -> pd.DataFrame:
    """The rows of `fedsim.tables.LEAKAGE`: with the measure, its threat model and the round."""
    about = {"round": round, "measure": name, "threat": measure.threat}
    return pd.DataFrame([{**about, **asdict(row)} for row in findings.rows], columns=list(LEAKAGE))
