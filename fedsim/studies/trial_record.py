"""The trials of a search as an Optuna study in an SQLite file, for its dashboard and its plots."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

_STATES = {
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class _Designed(optuna.samplers.BaseSampler):
    """Suggests the values of a design by the trial's number."""

    def __init__(self, designed: Sequence[Mapping[str, float]]) -> None:
        self.designed = designed

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Nothing is sampled jointly."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing is sampled jointly."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> float:
        """What the design says."""
        return self.designed[trial.number][name]


class TrialRecord:
    """What happened to each trial. The runs of the trials are what a search goes on from: a file
    that was lost is written again."""

    def __init__(
        self,
        path: Path,
        name: str,
        designed: Sequence[Mapping[str, float]],
        spans: Mapping[str, tuple[float, float]],
    ) -> None:
        """A new study `name` in the file, or the one that an interrupted search left there.

        spans: (lowest, highest) of each key that is searched.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.study = optuna.create_study(
            storage=f"sqlite:///{os.fspath(path.resolve())}",
            study_name=name,
            direction="maximize",
            sampler=_Designed(designed),
            pruner=optuna.pruners.NopPruner(),  # who goes on is decided in step, in `tuning`
            load_if_exists=True,
        )
        space: dict[str, BaseDistribution] = {
            k: FloatDistribution(low, high, log=low > 0) for k, (low, high) in spans.items()
        }
        while len(self.study.get_trials(deepcopy=False)) < len(designed):
            self.study.ask(space)

    def reached(self, trial: int, round: int, top1: float) -> None:
        """The score of a trial after a round; one that is known already stays."""
        known = self.study.get_trials(deepcopy=False)[trial]
        if not known.state.is_finished() and round not in known.intermediate_values:
            optuna.trial.Trial(self.study, known._trial_id).report(top1, round)

    def ended(self, trial: int, state: str) -> None:
        """finished, stopped or failed."""
        known = self.study.get_trials(deepcopy=False)[trial].intermediate_values
        value = known[max(known)] if state == "finished" else None
        self.study.tell(trial, value, state=_STATES[state], skip_if_finished=True)
