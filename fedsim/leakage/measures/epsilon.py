"""`epsilon`: whether what an attack on the mechanism achieves is consistent with what is proven."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.leakage import audit_runs, auditing
from fedsim.leakage.audit_runs import Observed
from fedsim.leakage.auditing import Guesses
from fedsim.leakage.base import MEASURES, NAN, Finding, Findings, Measure, Subject
from fedsim.leakage.intervals import CLOPPER_PEARSON, WILSON, wilson
from fedsim.privacy.claims import rounded_up
from fedsim.runs import Run
from fedsim.seeding import stream

PARAMETERS_A_CANARY = 10  # with fewer, directions are too far from orthogonal
ACCUSED = 1e-3  # how often a right build may be accused, all bounds that count together


@MEASURES.register("epsilon")
class Epsilon(Measure):
    """Update canaries in audit runs (Andrew et al. 2023), bounds from their coins."""

    title: ClassVar[str] = "Epsilon: proven and attacked"
    threat: ClassVar[str] = (
        "an observer of every round's released mean update, from which every global model is made, "
        "who may let users send any update"
    )
    meaning: ClassVar[str] = (
        "The proven epsilon promises that no attack succeeds more often than it allows; the lower "
        "bounds say what one strong attack on this build did achieve. A build is accused where one "
        "exceeds what is proven at 99.9 % confidence; an attack too weak for that says so."
    )
    trains: ClassVar[bool] = True

    canaries: int = Field(200, ge=20, description="audit users of a run, each in by its own coin")
    guesses: int = Field(
        100,
        ge=2,
        multiple_of=2,
        description="about so many of them, the surest half in, half out; fixed beforehand",
    )
    rounds: int = Field(4, ge=1, description="of an audit run; its epsilon is accounted anew")
    cohort: int = Field(
        0, ge=0, description="users a round; 0: everybody, the hardest test of noise and clipping"
    )
    seeds: int = Field(1, ge=1, description="audit runs, whose canaries are taken together")

    def measure(self, subject: Subject) -> Findings:
        """See `Measure.measure`."""
        runs = self._runs(subject)
        promise = Promise(*audit_runs.proven(runs[0]), audit_runs.gaussian(runs[0]))
        seen = [audit_runs.observed(run) for run in runs]
        coins = [one.included for one in seen]
        others = [
            stream(subject.seed, "coins of the control", user=index).random(self.canaries) < 0.5
            for index in range(self.seeds)
        ]
        found, control = (guesses_of(seen, drawn, self.guesses) for drawn in (coins, others))
        halves = auditing.halves(
            self.canaries * self.seeds, stream(subject.seed, "halves of the audit")
        )
        users = len(open_federation(runs[0].config).population)
        judged = verdict(found, promise)
        rows = [
            _proven(promise, users, runs[0]),
            _right(found, control),
            *_one_run(found, control, promise),
            *_most(found, promise),
            judged,
            *_from_errors(seen, halves, promise),
            *_estimates(seen, promise),
        ]
        broken = (
            f"Implementation error: an attack on the mechanism {judged.note}; do not rely on it."
        )
        return Findings(rows, {"canaries": _table(seen)}, broken if judged.estimate else "")

    def _runs(self, subject: Subject) -> list[Run]:
        """The audit runs, trained or found."""
        if subject.bench is None:
            raise FedsimError("The measure 'epsilon' trains runs of its own; take it by `audit`.")
        if self.guesses > self.canaries:
            raise FedsimError(
                f"epsilon.guesses = {self.guesses} is more than the {self.canaries} canaries; "
                "lower it."
            )
        least = PARAMETERS_A_CANARY * self.canaries
        if subject.model.n_parameters < least:
            raise FedsimError(
                f"A model of {subject.model.n_parameters:,} parameters has no room for "
                f"{self.canaries} canaries; set epsilon.canaries to at most "
                f"{subject.model.n_parameters // PARAMETERS_A_CANARY}."
            )
        config, federation = subject.config, subject.federation
        real = int((federation.population < federation.corpus.users).sum())
        cells = {
            f"audit {index}": audit_runs.audit_config(
                config, real, self.canaries, self.rounds, self.cohort, config.seed + index
            )
            for index in range(self.seeds)
        }
        runs = subject.bench.train(cells, subject.heard)
        return [runs[name] for name in cells]


@dataclass(frozen=True)
class Promise:
    """What the audit runs promise; gaussian: by a mechanism with a Gaussian's trade-off."""

    epsilon: float
    delta: float
    gaussian: bool

    @property
    def heuristic(self) -> str:
        """What must be said of a bound that takes the trade-off to be a Gaussian's."""
        return "" if self.gaussian else "heuristic here: cohorts are sampled; "

    @property
    def bounds(self) -> dict[str, Callable[[Guesses, float, float], float]]:
        """Those that need no assumption that this mechanism does not keep; they alone accuse."""
        exact = {"one-run f-DP": auditing.one_run_gaussian} if self.gaussian else {}
        return {"one-run": auditing.one_run, **exact}

    @property
    def alpha(self) -> float:
        """Of each of them, so that a right build is accused with chance `ACCUSED` at most."""
        return ACCUSED / len(self.bounds)


def guesses_of(seen: Sequence[Observed], coins: Sequence[np.ndarray], guesses: int) -> Guesses:
    """Of all runs together: each canary is in one run only, so they are one mechanism's."""
    each = [auditing.guess(one.scores, c, guesses) for one, c in zip(seen, coins, strict=True)]
    return Guesses(*(sum(column) for column in zip(*each, strict=True)))


def verdict(found: Guesses, promise: Promise) -> Finding:
    """1 where a bound contradicts what is proven, else 0; the note is the sentence to repeat.

    Nowhere else is a build accused. A bound that could not have exceeded what is proven, had every
    guess been right, is no evidence for the build either, and the note says so.
    """
    shown, name = _largest(found, promise)
    most, _ = _largest(found._replace(correct=found.made), promise)
    proven = (
        f"the {rounded_up(promise.epsilon)} that is proven for the audit run at delta = "
        f"{rounded_up(promise.delta, 3)}"
    )
    if math.isinf(promise.epsilon):
        note = "contradicts nothing, since nothing is promised"
    elif shown > promise.epsilon:
        note = f"contradicts {proven}: it shows {shown:.3g} ({name}, 99.9 % confidence)"
    elif most <= promise.epsilon:
        note = (
            f"is too weak to contradict what is proven: with every guess right it would show "
            f"{most:.3g} at 99.9 % confidence, less than {proven}; lower epsilon.rounds, or raise "
            "epsilon.canaries and epsilon.guesses"
        )
    else:
        note = f"does not contradict {proven} at 99.9 % confidence; it could have shown {most:.3g}"
    return Finding("epsilon_contradicted", float(shown > promise.epsilon), n=found.made, note=note)


def _largest(found: Guesses, promise: Promise) -> tuple[float, str]:
    """Of the bounds that count, at the level of an accusation, and its name."""
    return max(
        (bound(found, promise.delta, promise.alpha), n) for n, bound in promise.bounds.items()
    )


def _proven(promise: Promise, users: int, run: Run) -> Finding:
    config = run.config
    said = (
        f"of the audit run ({config.server.rounds} rounds, {config.server.cohort} of {users} users "
        f"a round by {config.server.sampler})"
    )
    claim = audit_runs.claimed(run)
    if claim is None or math.isinf(promise.epsilon):
        return Finding("epsilon_proven", NAN, n=users, note=f"infinite: nothing is promised {said}")
    note = f"{said}: {claim.sentence('epsilon')}".rstrip(".")
    return Finding("epsilon_proven", promise.epsilon, n=users, note=note)


def _right(found: Guesses, control: Guesses) -> Finding:
    low, high = wilson(found.correct, found.made)
    return Finding(
        "guesses_right",
        found.correct / found.made,
        f"canaries={found.canaries}",
        found.made,
        low,
        high,
        WILSON,
        control.correct / control.made,
        "0.5 is chance; the control guesses coins that nobody used",
    )


def _most(found: Guesses, promise: Promise) -> list[Finding]:
    """What the bounds that count would be if every guess were right."""
    right = found._replace(correct=found.made)
    note = "if every guess were right, at 99.9 % confidence; what is proven above it is not tested"
    return [
        Finding(
            "epsilon_bound_most",
            bound(right, promise.delta, promise.alpha),
            f"method={name}",
            found.made,
            note=note,
        )
        for name, bound in promise.bounds.items()
    ]


def _one_run(found: Guesses, control: Guesses, promise: Promise) -> list[Finding]:
    ways = {
        "one-run": (auditing.one_run, "valid for any mechanism"),
        "one-run f-DP": (
            auditing.one_run_gaussian,
            f"{promise.heuristic}valid for Gaussian noise without amplification",
        ),
    }
    return [
        _bound(bound(found, promise.delta), name, found.made, note, bound(control, promise.delta))
        for name, (bound, note) in ways.items()
    ]


def _from_errors(
    seen: Sequence[Observed], halves: tuple[np.ndarray, np.ndarray], promise: Promise
) -> list[Finding]:
    """Bounds from the error rates at a threshold that was chosen on one half of the canaries."""
    scores = np.concatenate([one.scores for one in seen])
    included = np.concatenate([one.included for one in seen])
    choosing, testing = halves
    independent = "takes the canaries of one run as independent trials"
    ways = {
        CLOPPER_PEARSON: (auditing.from_errors, independent),
        "GDP": (auditing.gaussian_from_errors, f"{promise.heuristic}{independent}, Gaussian noise"),
    }
    rows = []
    for name, (bound, note) in ways.items():
        of = partial(bound, delta=promise.delta)
        threshold = auditing.best_threshold(scores[choosing], included[choosing], of)
        errors = auditing.error_bounds(scores[testing], included[testing], threshold)
        rows.append(_bound(of(errors), name, len(testing), f"{note}; threshold from the others"))
    return rows


def _bound(least: float, method: str, n: int, note: str, control: float = NAN) -> Finding:
    return Finding(
        "epsilon_lower_bound",
        least,
        f"method={method}",
        n,
        low=least,
        interval="one-sided 95 %",
        control=control,
        note=note,
    )


def _estimates(seen: Sequence[Observed], promise: Promise) -> list[Finding]:
    """Andrew et al. 2023, the deviation of the null from the canaries that were not in."""
    sums = np.concatenate([one.sums for one in seen])
    included = np.concatenate([one.included for one in seen])
    null = float(np.sqrt(np.mean(sums[~included] ** 2)))
    rows = []
    for name, fitted in (("fitted", True), ("of the null", False)):
        found = auditing.one_shot(sums[included], null, promise.delta, fitted)
        note = "an estimate, not a bound" + ("; biased upwards for few canaries" if fitted else "")
        group = f"method=one-shot deviation={name}"
        rows.append(Finding("epsilon_estimate", found, group, int(included.sum()), note=note))
    return rows


def _table(seen: Sequence[Observed]) -> pd.DataFrame:
    """One row a canary: run, included, score, sum."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "run": index,
                    "canary": np.arange(len(one.scores)),
                    "included": one.included,
                    "score": one.scores,
                    "sum": one.sums,
                }
            )
            for index, one in enumerate(seen)
        ],
        ignore_index=True,
    )
