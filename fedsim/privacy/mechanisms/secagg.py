"""`secagg`: simulated secure aggregation of clipped updates, without noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from fedsim.options import Options
from fedsim.privacy.accounting import Guarantee
from fedsim.privacy.base import MECHANISMS, Mechanism, Release, State
from fedsim.privacy.contributions import Draw
from fedsim.privacy.secure_sum import SecureSum
from fedsim.updates import Aggregate, Contribution


class SecAggOptions(Options):
    """How updates become integers."""

    clip_norm: float = Field(
        0.5, ge=1e-4, le=1e6, description="l2 bound of one user's whole update"
    )
    secagg_bits: int = Field(22, ge=1, le=32, description="a coordinate, over +- clip_norm")
    secagg_modulus_bits: int = Field(32, ge=8, le=62, description="that the sum is made in")


@MECHANISMS.register("secagg")
class SecAgg(Mechanism):
    """The server learns the sum only. That is no differential privacy: the sum tells too."""

    Options = SecAggOptions
    options: SecAggOptions
    samplers = ()
    instead = (
        "dp-fedavg",
        "privacy=dp-fedavg privacy.secagg_bits=22, whose updates have noise in a secure sum",
    )

    def __init__(self, options: Any, setting: Any) -> None:
        super().__init__(options, setting)
        secure = SecureSum.of(options)
        assert secure is not None
        self._secure = secure
        secure.require_room_for(setting.largest_cohort, setting.size())

    @classmethod
    def contribution(
        cls, options: Any, work: Mapping[str, Any], size: int, draw: Draw | None = None
    ) -> Contribution:
        """Clipped and quantised."""
        secure = SecureSum.of(options)
        assert secure is not None
        return secure.contribution(size)

    def release(self, aggregate: Aggregate, round: int, state: State) -> Release:
        """The mean over those that completed: who took part is not hidden from the server."""
        self._secure.check(aggregate)
        return Release(aggregate.mean() if aggregate.results else None, state, {})

    def guarantee(self, noise_multiplier: float, rounds: int) -> Guarantee | None:
        """None."""
        return None
