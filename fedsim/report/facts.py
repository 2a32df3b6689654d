"""What a run's tables say, in the shape that the sentences, the plots and the page need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from fedsim.divergence import diverged
from fedsim.errors import FedsimError
from fedsim.leakage.canaries import drawn
from fedsim.report.intervals import Estimate, recall, recall_difference
from fedsim.runs import Run

NEVER_SEEN_BITS = 1.44  # 1 / ln 2: mean exposure of a sentence that the model never saw
BASELINES = ("trigram", "central")
FLOORS = ("unigram", "word list")  # keyboards that do not look at what was typed before
HITS = {"top1_recall": "hits_top1", "top3_recall": "hits_top3"}


@dataclass(frozen=True)
class Facts:
    """The tables of one run. Everything derived is computed here, and only here."""

    name: str
    config: dict[str, Any]
    status: dict[str, Any]
    provenance: dict[str, Any]
    rounds: pd.DataFrame
    clients: pd.DataFrame
    failures: pd.DataFrame
    evaluations: pd.DataFrame
    results: pd.DataFrame
    users: pd.DataFrame
    exposures: pd.DataFrame  # of all rounds
    privacy: dict[str, Any] | None  # the statement
    leakage: pd.DataFrame  # of all rounds
    suggestions: pd.DataFrame
    canary_sentences: list[list[str]]  # of the planted ones by number; none where not known
    diverged: str = ""  # what is said of a model worse than guessing

    @classmethod
    def of(cls, run: Run) -> Facts:
        """Read the folder once."""
        return cls(
            run.path.resolve().name,
            run.config.as_dict(),
            run.status,
            run.provenance,
            run.rounds,
            run.clients,
            run.table("failures"),
            run.evaluations,
            run.results,
            run.table("users"),
            run.exposure,
            run.privacy,
            run.table("leakage"),
            run.table("suggestions"),
            _canary_sentences(run),
            diverged(run),
        )

    # -- progress ----------------------------------------------------------------------------

    @property
    def rounds_done(self) -> int:
        """Rounds in the tables; a killed run's status may lag behind them."""
        return int(self.rounds["round"].max()) if len(self.rounds) else 0

    @property
    def rounds_planned(self) -> int:
        """Rounds that the config asks for."""
        return int(self.config["server"]["rounds"])

    @property
    def validation(self) -> pd.DataFrame:
        """Scores on validation users by round."""
        return self.evaluations[self.evaluations["split"] == "validation"]

    # -- models ------------------------------------------------------------------------------

    @property
    def federated(self) -> str:
        """The federated model's name in the tables: its strategy's."""
        return str(self.config["strategy"]["name"])

    @cached_property
    def models(self) -> list[str]:
        """Models of the final table that look at what was typed: the federated one, then its
        baselines."""
        return [name for name in self.scored if name not in FLOORS]

    @cached_property
    def scored(self) -> list[str]:
        """All of the final table: `models`, then the floors."""
        names = list(dict.fromkeys(self.results["model"]))
        order = {name: i for i, name in enumerate((self.federated, *BASELINES, *FLOORS))}
        return sorted(names, key=lambda name: order.get(name, len(order)))

    @property
    def averaged(self) -> float:
        """Decay of the running average over rounds that was scored; 0 where there was none."""
        return float(self.config["server"]["average"])

    @property
    def central_averaged(self) -> bool:
        """Whether the central baseline is a running average too. It was not in runs that counted
        keystrokes with three suggestions only."""
        central = self.result("central")
        known = central is not None and not pd.isna(central["keystroke_savings_top1"])
        return bool(self.averaged) and known

    def result(self, model: str) -> pd.Series | None:
        """A model's row of the final table."""
        rows = self.results[self.results["model"] == model]
        return rows.iloc[-1] if len(rows) else None

    def users_of(self, model: str) -> pd.DataFrame:
        """A model's counts on each test user who wrote a word."""
        return self.users[(self.users["model"] == model) & (self.users["words"] > 0)]

    def recall(self, model: str, score: str) -> Estimate:
        """A final recall with its interval over users."""
        row = self.result(model)
        value = float(row[score]) if row is not None else float("nan")
        return Estimate(value, recall(self.users_of(model), HITS[score]).half_width)

    def lead(self, over: str, score: str) -> Estimate | None:
        """How far the federated model is above another, with the interval of the difference."""
        mine, other = self.result(self.federated), self.result(over)
        if mine is None or other is None or not np.isfinite(mine[score] - other[score]):
            return None
        mine_users, other_users = self.users_of(self.federated), self.users_of(over)
        width = recall_difference(mine_users, other_users, HITS[score]).half_width
        return Estimate(float(mine[score] - other[score]), width)

    def user_recalls(self, model: str, score: str = "top1_recall") -> np.ndarray:
        """Each test user's recall, sorted."""
        rows = self.users_of(model)
        return np.sort((rows[HITS[score]] / rows["words"]).to_numpy(np.float64))

    # -- clients -----------------------------------------------------------------------------

    def participations(self, canary_users: bool) -> pd.Series:
        """Rounds completed by each user who took part."""
        rows = self.clients[self.clients["canary_user"] == canary_users]
        return rows.groupby("user").size()

    # -- canaries ----------------------------------------------------------------------------

    @cached_property
    def exposure(self) -> pd.DataFrame:
        """The last measurement."""
        rows = self.exposures
        return rows[rows["round"] == rows["round"].max()] if len(rows) else rows

    @property
    def planted(self) -> pd.DataFrame:
        """Planted canaries at the last measurement."""
        return self.exposure[self.exposure["kind"] == "planted"]

    @property
    def seen(self) -> pd.DataFrame:
        """Those of `planted` that were trained on: a holder took part at least once."""
        return self.planted[self.planted["holder_participations"] > 0]

    @property
    def controls(self) -> pd.DataFrame:
        """Canaries that nobody holds, at the last measurement."""
        return self.exposure[self.exposure["kind"] == "held_out"]

    @property
    def ceiling_bits(self) -> float:
        """The highest exposure that the references can show."""
        return float(self.exposure["ceiling_bits"].max())

    @property
    def plants_canaries(self) -> bool:
        """Whether the config asks for canaries."""
        options = self.config["canaries"]
        some = options["per_cell"] and options["users"] and options["repeats"]
        return bool(some and options.get("name") != "none")


def _canary_sentences(run: Run) -> list[list[str]]:
    """They follow from the config and the vocabulary, which is there once there is a model."""
    if not (run.path / "vocabulary.txt").is_file():
        return []
    words = run.vocabulary()
    try:
        ids = drawn(run.config.canaries, len(words), run.config.seed)
    except FedsimError:
        return []
    return [[words[i] for i in row] for row in ids]
