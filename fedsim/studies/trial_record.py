"""The trials of a search as an Optuna study in an SQLite file, for its dashboard and its plots."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

_STATES = {
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
_AGAIN = "again"  # attribute: the number of the trial that this one is a repetition of


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
            pruner=optuna.pruners.NopPruner(),  # who goes on is decided in step, in `tuning`
            load_if_exists=True,
        )
        self._scores: dict[int, dict[int, float]] = defaultdict(dict)
        space: dict[str, BaseDistribution] = {
            k: FloatDistribution(low, high, log=low > 0) for k, (low, high) in spans.items()
        }
        for values in designed[len(self.study.get_trials(deepcopy=False)) :]:
            running = create_trial(
                state=TrialState.RUNNING, params=dict(values), distributions=space
            )
            self.study.add_trial(running)

    def reached(self, trial: int, round: int, top1: float) -> None:
        """The score of a trial after a round; one that is known already stays."""
        self._scores[trial][round] = top1
        known = self._latest(trial)
        if not known.state.is_finished() and round not in known.intermediate_values:
            optuna.trial.Trial(self.study, known._trial_id).report(top1, round)

    def ended(self, trial: int, state: str) -> None:
        """finished, stopped or failed.

        Optuna changes no trial that has ended: one that ends otherwise than before, such as a
        failed one that was trained again, is added with its values, and `again` says whose they
        are. One that was finished stays so.
        """
        known, ends, scores = self._latest(trial), _STATES[state], self._scores[trial]
        value = None
        if ends == TrialState.COMPLETE:
            scores = {**known.intermediate_values, **scores}
            value = scores[max(scores)]
        if not known.state.is_finished():
            self.study.tell(known.number, value, state=ends)
        elif known.state not in (ends, TrialState.COMPLETE):
            self.study.add_trial(
                create_trial(
                    state=ends,
                    value=value,
                    params=known.params,
                    distributions=known.distributions,
                    intermediate_values=scores,
                    user_attrs={_AGAIN: trial},
                )
            )

    def _latest(self, trial: int) -> FrozenTrial:
        """The last that Optuna knows of a trial of the design."""
        trials = self.study.get_trials(deepcopy=False)
        return next((t for t in trials[::-1] if t.user_attrs.get(_AGAIN) == trial), trials[trial])
