"""What a finding is: a published claim, the runs that can show it here, and a rule to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd

from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.registry import Registry
from fedsim.runs import Run
from fedsim.studies.grid import Told
from fedsim.studies.ordering import LEAST_SEEDS

SHOWS, DOES_NOT_SHOW, UNRESOLVED = "shows", "does not show", "not resolved"
CURVE = ("arm", "seed", "round", "top1")


@dataclass(frozen=True)
class Published:
    """A figure as the paper prints it; source: which table or figure of the paper."""

    what: str
    value: str
    source: str


@dataclass(frozen=True)
class Asked:
    """What a user asks for: seeds, and `section.key=value` for every cell."""

    seeds: tuple[int, ...]
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What was trained. rows: one a cell, with the columns that the finding's rule reads; runs:
    those that the rows are of; trials: those of the search before, where there was one; curves:
    one an evaluation on validation users (columns `CURVE`), empty where the cells have no curve."""

    rows: pd.DataFrame
    runs: Sequence[Run]
    trials: Sequence[Run] = ()
    curves: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CURVE)))


@dataclass(frozen=True)
class Outcome:
    """A verdict, the table it rests on (text, as it is shown), what was found in sentences, and
    what stands right below the table, such as what its epsilons depend on."""

    verdict: str
    table: pd.DataFrame
    sentences: tuple[str, ...]
    note: str = ""


class Finding:
    """Base: what is said before the training, what is trained, and how it is judged."""

    title: ClassVar[str]
    citation: ClassVar[str]
    claim: ClassVar[str]  # one sentence
    rule: ClassVar[str]  # in words, before anything is trained
    published: ClassVar[tuple[Published, ...]]
    cost: ClassVar[str]  # of the default, with nothing cached
    seeds: ClassVar[int] = 3
    preset: ClassVar[str]  # of every cell
    varied: ClassVar[Mapping[str, str]] = {}  # keys that it sets itself -> why

    def cells(self, asked: Asked) -> dict[str, Config]:
        """What is trained, by name; where settings are searched, with the first of each."""
        raise NotImplementedError

    def measure(self, asked: Asked, folder: Path, jobs: int, told: Told) -> Measured:
        """Train what is missing in `folder` and read off what the rule needs."""
        raise NotImplementedError

    def judge(self, rows: pd.DataFrame) -> Outcome:
        """By the rule. From one seed it never says that a finding shows."""
        raise NotImplementedError

    def judge_asked(self, rows: pd.DataFrame, asked: Asked) -> Outcome:
        """By the rule, and by the one for all that compare seeds: too few resolve nothing."""
        outcome = self.judge(rows)
        if len(asked.seeds) >= min(self.seeds, LEAST_SEEDS):
            return outcome
        said = f"Fewer than {LEAST_SEEDS} seeds resolve nothing, whatever the rule says of them."
        return replace(outcome, verdict=UNRESOLVED, sentences=(*outcome.sentences, said))

    def check(self, overrides: Sequence[str]) -> None:
        """Raises FedsimError for a key that the finding itself sets."""
        for override in overrides:
            key = override.partition("=")[0].strip().removesuffix(".name")
            if key in self.varied:
                raise FedsimError(f"The finding sets {key} itself: {self.varied[key]}.")


FINDINGS: Registry[type[Finding]] = Registry("finding")
