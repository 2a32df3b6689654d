"""`dp-sgd`: each client trains by DP-SGD on its own sequences (Abadi et al. 2016)."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from fedsim.errors import FedsimError
from fedsim.privacy.accounting import (
    ZERO_OUT_SEQUENCE,
    Guarantee,
    example_epsilon,
    known_names,
    loud,
)
from fedsim.privacy.base import MECHANISMS, Mechanism, Release, State
from fedsim.privacy.claims import BATCHES
from fedsim.privacy.events import Event, mu_of, rho_of
from fedsim.privacy.noise_options import NoiseOptions
from fedsim.updates import Aggregate


class DpSgdOptions(NoiseOptions):
    """The same rate and the same number of steps for every client, so that both are public."""

    clip_norm: float = Field(
        0.5, ge=1e-4, le=1e6, description="l2 bound of one sequence's gradient"
    )
    noise_multiplier: float = Field(
        0.0, ge=0, le=1e6, description="deviation of a step's noise / clip norm; 0: see epsilon"
    )
    epsilon: float = Field(
        0.0, ge=0, description="budget of the client that takes part most often; 0 is none"
    )
    delta: float = Field(1e-5, gt=0, lt=1)
    sample_rate: float = Field(0.1, gt=0, le=1, description="of a sequence in each local step")
    steps: int = Field(10, ge=1, description="local steps a round")


@MECHANISMS.register("dp-sgd")
class DpSgd(Mechanism):
    """Each client's ledger grows with every round that it takes part in."""

    Options = DpSgdOptions
    options: DpSgdOptions
    unit = "sequence"
    clients_draw = True
    arithmetic = "floating point, in which single coordinates can give a sequence away"
    samplers = ("fixed", "poisson", "truncated", "cyclic", "groups")
    without_effect = (
        "client.epochs",
        "client.batch_size",
        "client.max_grad_norm",
        "client.proximal_mu",
    )

    def release(self, aggregate: Aggregate, round: int, state: State) -> Release:
        """The weighted mean."""
        mean = aggregate.mean() if aggregate.results else None
        options = self.options
        facts = {
            "clip_norm": options.clip_norm,
            "noise_deviation": options.noise_multiplier * options.clip_norm,
        }
        return Release(mean, state, facts)

    def guarantee(self, noise_multiplier: float, rounds: int) -> Guarantee | None:
        """For the client that takes part most often."""
        options, setting = self.options, self.setting
        if options.delta * setting.most_sequences() >= 1:
            raise FedsimError(
                f"privacy.delta = {options.delta:g} is not below 1 / {setting.most_sequences()}, "
                "the sequences of the client that has most; lower it."
            )
        if not noise_multiplier:
            return None
        often = setting.most_participations(rounds)
        loss = example_epsilon(
            noise_multiplier, options.sample_rate, often * options.steps, options.delta
        )
        events = (
            Event("poisson", noise_multiplier, often * options.steps, rate=options.sample_rate),
        )
        return Guarantee(
            epsilon=loss.epsilon,
            delta=options.delta,
            unit="sequence of one client",
            adjacency=ZERO_OUT_SEQUENCE,
            sampler=f"{BATCHES}, rate {options.sample_rate:g} a step, whoever is in a cohort",
            accountant=f"{loss.accountant}, of the client that takes part most often",
            epsilon_rdp=loss.epsilon_rdp,
            rho=rho_of(events),
            mu=mu_of(events),
            events=events,
            mechanism="dp-sgd",
            noise_multiplier=noise_multiplier,
            sensitivity=1.0,
            adversary="sees every update of the client: the server too, if it follows the protocol "
            "in what it asks and tells; nothing is claimed for its user as a whole",
            amplified=True,
            participations=often,
            min_separation=None,
            warnings=tuple(loud(loss.epsilon)),
            **known_names(events, setting.users * setting.most_sequences(), options.delta),
        )

    def beside(self, participations: np.ndarray) -> dict[str, Any]:
        """How epsilon is distributed over the clients, by how often each took part."""
        often = np.sort(participations[participations > 0])
        noise = self.options.noise_multiplier
        if not len(often) or not noise:
            return {}
        rate, delta = self.options.sample_rate, self.options.delta
        epsilons = [
            example_epsilon(noise, rate, int(often[place]) * self.options.steps, delta).epsilon
            for place in (len(often) // 2, 3 * len(often) // 4, -1)
        ]
        names = ("median", "upper_quartile", "max")
        counts = {"clients": len(often), "participations": int(often[-1])}
        return {"clients": {**counts, **dict(zip(names, epsilons, strict=True))}}
