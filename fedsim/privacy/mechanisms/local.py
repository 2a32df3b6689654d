"""`local`: each client noises its own clipped update before it sends it (local DP)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from fedsim.errors import FedsimError
from fedsim.privacy.accounting import (
    REPLACE_TEXT,
    Guarantee,
    local_epsilon,
    local_events,
    loud,
)
from fedsim.privacy.base import MECHANISMS, Mechanism, Release, State
from fedsim.privacy.contributions import Draw, Noised
from fedsim.privacy.events import mu_of, rho_of
from fedsim.privacy.noise_options import NoiseOptions
from fedsim.updates import Aggregate, Contribution


class LocalOptions(NoiseOptions):
    """The client's own clip norm and noise."""

    clip_norm: float = Field(
        0.5, ge=1e-4, le=1e6, description="l2 bound of one user's whole update"
    )
    noise_multiplier: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="deviation of each client's noise / clip norm; 0: see epsilon",
    )
    epsilon: float = Field(0.0, ge=0, description="budget of a user over all its rounds; 0 is none")
    delta: float = Field(0.0, ge=0, lt=1, description="0 means users^-1.1")


@MECHANISMS.register("local")
class Local(Mechanism):
    """Any two updates differ by at most 2 C, in each round that the user takes part in.

    The guarantee holds against the server itself. It needs no sampling assumption.
    """

    Options = LocalOptions
    options: LocalOptions
    unit = "update"
    clients_draw = True
    arithmetic = "whole steps of the grid that the exact sum lies on, drawn without error"
    samplers = ("fixed", "poisson", "truncated", "cyclic", "groups")

    @classmethod
    def contribution(
        cls, options: Any, work: Mapping[str, Any], size: int, draw: Draw | None = None
    ) -> Contribution:
        """Clipped and noised."""
        deviation = options.noise_multiplier * options.clip_norm
        return Noised(options.clip_norm, deviation, size, draw)

    def release(self, aggregate: Aggregate, round: int, state: State) -> Release:
        """The mean over those that completed; dividing what is private already costs nothing."""
        deviation = self.options.noise_multiplier * self.options.clip_norm
        norms = [r.update_norm for r in aggregate.results]
        facts = {
            "clip_norm": self.options.clip_norm,
            "noise_deviation": deviation / max(len(norms), 1) ** 0.5,
            "users_clipped": sum(norm > self.options.clip_norm for norm in norms),
            "users_not_finite": sum(not np.isfinite(norm) for norm in norms),
        }
        return Release(aggregate.mean() if norms else None, state, facts)

    def guarantee(self, noise_multiplier: float, rounds: int) -> Guarantee | None:
        """For the user that takes part most often."""
        setting, delta = self.setting, self.options.delta
        if delta * setting.users >= 1:
            raise FedsimError(
                f"privacy.delta = {delta:g} is not below 1 / users = {1 / setting.users:.3g}; "
                "lower it, or leave it out."
            )
        if not noise_multiplier:
            return None
        often = setting.most_participations(rounds)
        epsilon = local_epsilon(noise_multiplier, often, delta)
        events = local_events(noise_multiplier, often)
        return Guarantee(
            epsilon=epsilon,
            delta=delta,
            unit="user",
            adjacency=REPLACE_TEXT,
            sampler=setting.sampler,
            accountant="exact Gaussian over all participations",
            epsilon_rdp=None,
            rho=rho_of(events),
            mu=mu_of(events),
            events=events,
            mechanism="local",
            noise_multiplier=noise_multiplier,
            sensitivity=2 * math.sqrt(often),
            adversary="sees every update of every client: the server too, if it follows the "
            "protocol in what it asks and tells",
            amplified=False,
            participations=often,
            min_separation=None,
            warnings=tuple(loud(epsilon)),
        )
