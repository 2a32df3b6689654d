"""What a plan guarantees: epsilon with its unit, adjacency, adversary and accountant."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsim.errors import FedsimError
from fedsim.privacy.accountants import (
    Loss,
    exact_gaussian,
    fixed_size_gaussian,
    gaussian,
    sampled_gaussians,
    truncated_gaussian,
)
from fedsim.privacy.plan import LEAST_NOISE, Plan, checked, squared_sensitivity, warnings

LARGE_EPSILON = 20
EVERY_MODEL = (
    "sees every global model of the run; a server that sees updates before the noise is not covered"
)
_ADJACENCY = {
    "poisson": "add or remove one user",
    "groups": "add or remove one user",
    "truncated": "zero-out one user",
    "cyclic": "zero-out one user",
    "fixed": "replace one user",
}


@dataclass(frozen=True)
class Guarantee:
    """(epsilon, delta)-DP for a user, against whoever sees every global model.

    `sensitivity` is by how many clip norms one user can move what the noise hides: of the
    strategy matrix over the whole run where users come cyclically (the identity's is sqrt k),
    of one round where cohorts are sampled (2 where one user replaces another). `rho` is zCDP's,
    None under sampling; `epsilon_rdp` a cross-check, None where RDP does not know the sampler.
    """

    epsilon: float
    delta: float
    unit: str
    adjacency: str
    sampler: str
    accountant: str
    epsilon_rdp: float | None
    rho: float | None
    mechanism: str
    noise_multiplier: float
    sensitivity: float
    adversary: str
    amplified: bool
    participations: int | None
    min_separation: int | None
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; all numbers are finite."""
        return dataclasses.asdict(self) | {"warnings": list(self.warnings)}


def guarantee(plan: Plan) -> Guarantee:
    """Account a plan, or refuse one that has no guarantee."""
    plan = checked(plan)
    loss, sensitivity = loss_of(plan)
    said = [*warnings(plan), *loss.warnings, *loud(loss.epsilon)]
    amplified = plan.sampler != "cyclic"
    return Guarantee(
        epsilon=loss.epsilon,
        delta=plan.delta,
        unit="user",
        adjacency=_ADJACENCY[plan.sampler],
        sampler=plan.sampler,
        accountant=loss.accountant,
        epsilon_rdp=loss.rdp,
        rho=None if amplified else (sensitivity / plan.noise_multiplier) ** 2 / 2,
        mechanism=plan.mechanism,
        noise_multiplier=plan.noise_multiplier,
        sensitivity=sensitivity,
        adversary=EVERY_MODEL,
        amplified=amplified,
        participations=plan.participations,
        min_separation=plan.min_separation,
        warnings=tuple(said),
    )


def loud(epsilon: float) -> list[str]:
    """A warning where epsilon is so large that little is guaranteed."""
    if epsilon <= LARGE_EPSILON:
        return []
    return [f"epsilon = {epsilon:.3g} is above {LARGE_EPSILON}: as a guarantee it is weak."]


def loss_of(plan: Plan, grid: float = 1.0) -> tuple[Loss, float]:
    """The loss of a checked plan and its sensitivity; `grid` > 1 is coarser and has no check."""
    z, delta, rounds = plan.noise_multiplier, plan.delta, plan.rounds
    if plan.sampler == "poisson":
        return sampled_gaussians(((z, plan.rate, rounds),), delta, grid), 1.0
    if plan.sampler == "truncated":
        cut = plan.max_cohort or plan.users
        return truncated_gaussian(z, plan.users, plan.rate, cut, rounds, delta, grid), 1.0
    if plan.sampler == "fixed":
        return fixed_size_gaussian(z, plan.users, plan.cohort, rounds, delta, grid), 2.0
    if plan.sampler == "groups":
        # A user's group has its turn every b rounds, at most b bands: one column at a time counts.
        groups = plan.min_separation or 1
        column = math.sqrt(squared_sensitivity(plan, participations=1))
        turns = -(-rounds // groups)
        return sampled_gaussians(((z / column, groups * plan.rate, turns),), delta, grid), column
    sensitivity = math.sqrt(squared_sensitivity(plan, plan.participations or 1))
    return gaussian(z / sensitivity, delta), sensitivity


# -- what a client guarantees by itself -----------------------------------------------------------


@dataclass(frozen=True)
class ExampleLoss:
    """Epsilon for one sequence of one client (add or remove), and RDP's cross-check."""

    epsilon: float
    epsilon_rdp: float


def example_epsilon(
    noise_multiplier: float, sample_rate: float, steps: int, delta: float
) -> ExampleLoss:
    """DP-SGD with Poisson batches (Abadi et al. 2016): all steps that a client made in a run."""
    return ledger_epsilon([(noise_multiplier, sample_rate, steps)], delta)


def ledger_epsilon(history: Sequence[tuple[float, float, int]], delta: float) -> ExampleLoss:
    """The whole ledger of one client, (noise multiplier, sample rate, steps) for each round.

    It holds against whoever sees all updates of the client. `delta` must be below 1 / the number
    of the client's sequences, which is not known here.
    """
    _check_delta(delta)
    totals: dict[tuple[float, float], int] = {}
    for noise, rate, steps in history:
        if not (math.isfinite(noise) and noise >= LEAST_NOISE):
            raise FedsimError(
                f"A client trained with noise multiplier {noise:g}, which protects nothing: "
                f"there is no epsilon; set it to {LEAST_NOISE:g} or more."
            )
        totals[noise, rate] = totals.get((noise, rate), 0) + steps
    events = tuple((*key, steps) for key, steps in sorted(totals.items()) if steps and key[1])
    if not events:
        return ExampleLoss(0.0, 0.0)
    loss = sampled_gaussians(events, delta)
    return ExampleLoss(loss.epsilon, loss.rdp if loss.rdp is not None else math.inf)


def client_epsilons(
    histories: Mapping[int, Sequence[tuple[float, float, int]]], delta: float
) -> dict[int, ExampleLoss]:
    """User -> loss of their ledger; equal ledgers are accounted once."""
    return {user: ledger_epsilon(history, delta) for user, history in histories.items()}


def local_epsilon(noise_multiplier: float, participations: int, delta: float) -> float:
    """Local DP: each client noises its own clipped update; replace one user's data by any other.

    `noise_multiplier` is the noise's deviation over the clip norm C; two updates differ by up to
    2 C, and `participations` of them are one Gaussian mechanism.
    """
    _check_delta(delta)
    if not (math.isfinite(noise_multiplier) and noise_multiplier >= LEAST_NOISE):
        raise FedsimError(
            f"noise_multiplier = {noise_multiplier:g} protects nothing locally; set it to "
            f"{LEAST_NOISE:g} or more."
        )
    if participations < 1:
        return 0.0
    return exact_gaussian(noise_multiplier / 2 / math.sqrt(participations), delta)


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise FedsimError(f"delta = {delta:g} must be between 0 and 1; take 1e-5.")
