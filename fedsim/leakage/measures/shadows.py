"""Membership by shadow models: federated runs of the same config with other halves of the users."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from fedsim.config import Config, from_dict
from fedsim.device import threads
from fedsim.errors import FedsimError
from fedsim.leakage import attacks, blind, shadow
from fedsim.leakage.base import MEASURES, Findings, Measure, Subject
from fedsim.leakage.comparison import Comparison
from fedsim.leakage.groups import (
    Sentences,
    per_user,
    require_groups,
    sentences_of,
    some_users,
    typed_by_one,
)
from fedsim.leakage.scoring import Scored, score
from fedsim.runs import Run
from fedsim.seeding import stream
from fedsim.steps import Heard, steps

AUDITED, UNTRAINED, SHADOWS = 0, 1, 2  # rows of phi; from SHADOWS on one a shadow


@MEASURES.register("shadows")
class Shadows(Measure):
    """LiRA with and without shadows that saw the target, and RMIA; of users and of sentences."""

    title: ClassVar[str] = "Membership by shadow models"
    threat: ClassVar[str] = (
        "holds the global model, the config, a person's sentences, and text of people like the "
        "users, on which it trains models of its own"
    )
    meaning: ClassVar[str] = (
        "The strongest membership attacks: how likely a text is to the model beside how likely it "
        "is to models of which the adversary knows who trained them. AUC 0.5 is a coin, 1 is "
        "certainty."
    )
    trains: ClassVar[bool] = True

    shadows: int = Field(16, ge=2, description="runs to train, each with half of the users")
    rounds: int = Field(0, ge=0, description="of each of these; 0: as many as the run has")
    users: int = Field(400, ge=20, description="of each group, drawn")
    sentences: int = Field(20, ge=1, description="of each user at most, drawn")
    rmia_a: float = Field(
        1.0,
        ge=0,
        le=1,
        description="of p = ((1 + a) p_out + 1 - a) / 2; p is about 0.01 a word, so that any a "
        "much below 1 leaves nothing of the shadows",
    )
    rmia_gamma: float = Field(1.0, gt=0, description="times as likely as a stranger's text")

    def measure(self, subject: Subject) -> Findings:
        """AUC and TPR of each attack, on users and on sentences that one training user typed."""
        require_groups(subject)
        phases = subject.steps(training=50, targets=1, population=1, attacks=2)
        runs = self._trained(subject, phases.part("training"))
        federation, cap, seed = subject.federation, self.sentences, subject.seed
        rng = stream(seed, "shadow targets")
        groups = (subject.members, subject.nonmembers)
        users = np.sort(np.concatenate([some_users(g, self.users, rng) for g in groups]))
        targets = sentences_of(federation, users, "train", cap, seed)
        strangers = np.array(
            [u for s in ("validation", "test") for u in federation.corpus.split(s)]
        )
        population = sentences_of(federation, strangers, "all", cap, seed)
        with threads(1):  # the last bits of a score must not depend on the machine's cores
            models: list[Scored] = [subject.model, blind.untrained(subject)]
            models += [run.model().to(subject.model.device) for run in runs]
            phi = _phi(models, targets, phases.part("targets"))
            theirs = _phi(models, population, phases.part("population"))
        phases.part("attacks")
        inside = np.stack([participants(run, federation.users) for run in runs])
        typed = typed_by_one(federation, targets)
        found = [
            self._attack(
                subject,
                "user",
                targets,
                _of_users(phi, targets.users),
                _of_users(theirs, population.users),
                inside,
            ),
            self._attack(subject, "sentence", targets.where(typed), phi[:, typed], theirs, inside),
        ]
        rows = [row for level in found for row in level.rows]
        curves = pd.concat([level.details["roc"] for level in found], ignore_index=True)
        return Findings(rows, {"roc": curves})

    def _trained(self, subject: Subject, heard: Heard) -> list[Run]:
        """The shadow runs, from the cache where they are there."""
        if subject.bench is None:
            raise FedsimError("Shadow models are kept in a run's folder; audit a finished run.")
        train, cohort = len(subject.federation.corpus.split("train")), subject.config.server.cohort
        if cohort > train - train // 2:
            raise FedsimError(
                f"server.cohort = {cohort} is more than the half of the {train} training users "
                "that a shadow model has; train with a smaller cohort."
            )
        cells = {
            f"shadow-{i}": shadow_config(subject.config, i, self.rounds, train // 2)
            for i in range(self.shadows)
        }
        runs = subject.bench.train(cells, heard)
        return [runs[name] for name in cells]

    def _attack(
        self,
        subject: Subject,
        level: str,
        sentences: Sentences,
        phi: np.ndarray,
        theirs: np.ndarray,
        took_part: np.ndarray,
    ) -> Findings:
        """All attacks on the sentences' users, or on these themselves.

        phi (models, n) and theirs (models, z) of the population; took_part bool (shadows, users)
        by user id.
        """
        users, rows = sentences.users, np.arange(len(sentences.users))
        if level == "user":
            users, rows = np.unique(users, return_inverse=True)
        inside = took_part[:, users]
        scores, untrained = (
            {
                f"level={level} attack={name}": values
                for name, values in self._scores(phi, theirs, inside, model).items()
            }
            for model in (AUDITED, UNTRAINED)
        )
        comparison = Comparison(np.isin(users, subject.members), users, subject.seed)
        words = blind.bag_of_words(sentences.text, subject.model.vocabulary_size, rows)
        rng = stream(subject.seed, f"shadow folds {level}")
        guesses = blind.out_of_fold(words, comparison.member, users, rng)
        found = comparison.findings(scores, untrained, guesses, f"blind=words level={level}")
        return Findings(found, {"roc": comparison.curves(scores)})

    def _scores(
        self, phi: np.ndarray, theirs: np.ndarray, inside: np.ndarray, model: int
    ) -> dict[str, np.ndarray]:
        """Of one model (a row of phi), every attack's score of each target."""
        own, shadows = phi[model], phi[SHADOWS:]
        population = theirs[model], theirs[SHADOWS:]
        return {
            "lira-online": shadow.lira_online(own, shadows, inside),
            "lira-offline": shadow.lira_offline(own, shadows, inside),
            "rmia": shadow.rmia(own, shadows, inside, population, self.rmia_a, self.rmia_gamma),
        }


def shadow_config(config: Config, index: int, rounds: int, set_apart: int) -> Config:
    """The same run with another seed, without so many training users and without baselines.

    What a sampler promises is what it keeps among those that are left.
    """
    tree = config.as_dict()
    tree["seed"] = int(stream(config.seed, "shadow", index).integers(2**31))
    rounds = rounds or config.server.rounds
    promises = ("max_cohort", "min_separation", "max_participations")
    tree["server"] |= {"rounds": rounds, **dict.fromkeys(promises, 0)}
    tree["evaluation"] |= {"every": rounds, "trigram": False, "central": False}
    tree["audit"] = {"set_apart": set_apart}
    if tree["privacy"].get("noise_multiplier"):
        tree["privacy"]["epsilon"] = 0.0  # the same noise; of fewer users it keeps no budget
    return from_dict(tree)


def participants(run: Run, users: int) -> np.ndarray:
    """Whether each user took part in a run, bool (users,) by id."""
    return np.bincount(run.clients["user"], minlength=users)[:users] > 0


def _phi(models: list[Scored], sentences: Sentences, heard: Heard) -> np.ndarray:
    """Minus nats a word of each sentence under each model, float64 (models, sentences)."""
    told = steps(models, len(models), heard)
    return np.stack([attacks.loss(score(model, sentences.text)) for model in told])


def _of_users(phi: np.ndarray, users: np.ndarray) -> np.ndarray:
    """The mean of each user's sentences, (models, users)."""
    return np.stack([per_user(row, users, np.mean) for row in phi])
