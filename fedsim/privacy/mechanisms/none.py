"""No mechanism: updates are weighted by their sequences, as McMahan et al. 2017 do."""

from __future__ import annotations

from fedsim.options import Options
from fedsim.privacy.accounting import Guarantee
from fedsim.privacy.base import MECHANISMS, Mechanism, Release, State
from fedsim.updates import Aggregate


class NoneOptions(Options):
    """Nothing to choose."""


@MECHANISMS.register("none")
class NoMechanism(Mechanism):
    """Nothing is bounded, nothing is noised, nothing is claimed."""

    Options = NoneOptions
    samplers = ()
    instead = ("dp-fedavg", "privacy=dp-fedavg beside it")

    def release(self, aggregate: Aggregate, round: int, state: State) -> Release:
        """The weighted mean, or nothing where nobody completed."""
        return Release(aggregate.mean() if aggregate.results else None, state, {})

    def guarantee(self, noise_multiplier: float, rounds: int) -> Guarantee | None:
        """None."""
        return None
