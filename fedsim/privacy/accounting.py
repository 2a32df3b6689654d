"""What a plan guarantees: epsilon with its unit, adjacency, adversary and accountant."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedsim.errors import FedsimError
from fedsim.privacy.accountants import compose
from fedsim.privacy.claims import rounded_up
from fedsim.privacy.events import Event, mu_of, rho_of
from fedsim.privacy.known_names import epsilon_of_known, most_draws
from fedsim.privacy.plan import Plan, checked, squared_sensitivity, warnings

LARGE_EPSILON = 20
EVERY_MODEL = (
    "sees every global model of the run; a server that sees updates before the noise is not covered"
)
ZERO_OUT = "zero out one user; the number of users is public"
REPLACE = "replace one user; the number of users is public"
ZERO_OUT_SEQUENCE = "zero out one sequence of that client; the numbers of sequences are public"
REPLACE_TEXT = "replace one user's text"


@dataclass(frozen=True)
class Guarantee:
    """(epsilon, delta)-DP for a user, against whoever sees every global model.

    `sensitivity` is by how many clip norms one user can move what the noise hides: of the
    strategy matrix over the whole run where users come cyclically (the identity's is sqrt k),
    of one round where cohorts are sampled (2 where one user replaces another). `epsilon_rdp` is a
    cross-check, None where RDP does not know the sampler.

    For composing by hand: `rho` is zCDP's, which adds up over runs; it counts no sampling, so that
    it alone may give a larger epsilon. `mu` is that of Gaussian DP, whose squares add up; None
    where the whole is not exactly one Gaussian. `events` are the primitives (`Event.as_dict`):
    any accountant can compose those of several runs.

    `epsilon_names_known` is what is left for who knows who took part, of a user (or sequence) that
    was drawn `draws` times: by default what nobody exceeds but in one run in 10^9; None where
    sampling does not count.
    """

    epsilon: float
    delta: float
    unit: str
    adjacency: str
    sampler: str
    accountant: str
    epsilon_rdp: float | None
    rho: float
    mu: float | None
    events: tuple[Event, ...]
    mechanism: str
    noise_multiplier: float
    sensitivity: float
    adversary: str
    amplified: bool
    participations: int | None
    min_separation: int | None
    warnings: tuple[str, ...]
    epsilon_names_known: float | None = None
    draws: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which knows no infinity: "inf" stands for it."""
        plain = dataclasses.asdict(self) | {
            "warnings": list(self.warnings),
            "events": [event.as_dict() for event in self.events],
        }
        return {name: _json(value) for name, value in plain.items()}


def _json(value: Any) -> Any:
    return "inf" if isinstance(value, float) and math.isinf(value) else value


def guarantee(plan: Plan) -> Guarantee:
    """Account a plan, or refuse one that has no guarantee.

    Without noise epsilon is infinite, without rounds it is 0.
    """
    plan = checked(plan)
    return stated(plan, *events_of(plan))


def stated(plan: Plan, events: tuple[Event, ...], sensitivity: float) -> Guarantee:
    """The guarantee of a checked plan that is composed of these events."""
    loss = compose(events, plan.delta)
    said = [*warnings(plan), *loss.warnings, *loud(loss.epsilon)]
    amplified = plan.sampler != "cyclic"
    return Guarantee(
        epsilon=loss.epsilon,
        delta=plan.delta,
        unit="user",
        adjacency=REPLACE if plan.sampler == "fixed" else ZERO_OUT,
        sampler=plan.sampler,
        accountant=loss.accountant,
        epsilon_rdp=loss.rdp,
        rho=rho_of(events),
        mu=mu_of(events),
        events=events,
        mechanism=plan.mechanism,
        noise_multiplier=plan.noise_multiplier,
        sensitivity=sensitivity,
        adversary=EVERY_MODEL,
        amplified=amplified,
        participations=plan.participations,
        min_separation=plan.min_separation,
        warnings=tuple(said),
        **(known_names(events, plan.users, plan.delta) if amplified else {}),
    )


def known_names(events: Sequence[Event], records: int, delta: float) -> dict[str, Any]:
    """The fields `epsilon_names_known` and `draws`, of one of so many records."""
    draws = most_draws(events, records)
    return {"epsilon_names_known": epsilon_of_known(events, draws, delta), "draws": draws}


def loud(epsilon: float) -> list[str]:
    """A warning where epsilon is so large that little is guaranteed."""
    if epsilon <= LARGE_EPSILON or math.isinf(epsilon):  # which says it itself
        return []
    said = rounded_up(epsilon)
    return [f"epsilon = {said} is above {LARGE_EPSILON}: as a guarantee it is weak."]


def events_of(plan: Plan) -> tuple[tuple[Event, ...], float]:
    """What a checked plan is composed of, what came before it included, and by how many clip norms
    one user moves a sum."""
    events, sensitivity = _of_rounds(plan)
    return (*before(plan), *events), sensitivity


def before(plan: Plan) -> tuple[Event, ...]:
    """The events before round 1. Who replaces another moves a count as two who are zeroed out."""
    if plan.sampler != "fixed":
        return plan.before
    return tuple(
        dataclasses.replace(event, noise_multiplier=event.noise_multiplier / math.sqrt(2))
        for event in plan.before
    )


def _of_rounds(plan: Plan) -> tuple[tuple[Event, ...], float]:
    """What the rounds of a checked plan are composed of, and by how many clip norms one user moves
    a sum.

    Rates, counts and denominators are made of the number of users, so that nobody can be added or
    removed without changing what everybody else does: the neighbour is a run with the same users
    in which one of them contributes nothing. Under one rate that user's coin is independent of all
    others', and given theirs a round's sum is (1 - q) N(s, z^2) + q N(s + x, z^2) with the user and
    N(s, z^2) without: by joint convexity never further apart than with s = 0 and |x| = 1, which is
    the pair that adding and removing under a fixed rate has too.
    """
    z, rounds = plan.noise_multiplier, plan.rounds
    if not rounds:
        return (), 0.0
    if plan.sampler == "poisson":
        return (Event("poisson", z, rounds, rate=plan.rate),), 1.0
    if plan.sampler == "truncated":
        cut = plan.max_cohort or plan.users
        return (Event("truncated", z, rounds, rate=plan.rate, users=plan.users, cut=cut),), 1.0
    if plan.sampler == "fixed":  # +C in the place of -C
        return (Event("fixed", z / 2, rounds, users=plan.users, cohort=plan.cohort),), 2.0
    if plan.sampler == "groups":
        # A user's group has its turn every b rounds, at most b bands: one column at a time counts.
        groups = plan.min_separation or 1
        column = math.sqrt(squared_sensitivity(plan, participations=1))
        turns = -(-rounds // groups)
        return (Event("poisson", z / column, turns, rate=groups * plan.rate),), column
    sensitivity = math.sqrt(squared_sensitivity(plan, plan.participations or 1))
    return (Event("gaussian", z / sensitivity),), sensitivity


# -- what a client guarantees by itself -----------------------------------------------------------


@dataclass(frozen=True)
class ExampleLoss:
    """Epsilon for one sequence of one client (zero out), RDP's cross-check, and who computed it."""

    epsilon: float
    epsilon_rdp: float
    accountant: str


def example_epsilon(
    noise_multiplier: float, sample_rate: float, steps: int, delta: float
) -> ExampleLoss:
    """DP-SGD with Poisson batches (Abadi et al. 2016): all steps that a client made in a run."""
    return ledger_epsilon([(noise_multiplier, sample_rate, steps)], delta)


def ledger_epsilon(history: Sequence[tuple[float, float, int]], delta: float) -> ExampleLoss:
    """The whole ledger of one client, (noise multiplier, sample rate, steps) for each round.

    It holds against whoever sees all updates of the client, who learns the number of its sequences
    too: the noise is scaled by it. `delta` must be below 1 / that number, which is not known here.
    Steps without noise have no bound: epsilon is infinite.
    """
    _check_delta(delta)
    for noise, _, _ in history:
        _check_noise(noise)
    events = [Event("poisson", noise, steps, rate=rate) for noise, rate, steps in history]
    loss = compose(events, delta)
    rdp = math.inf if loss.rdp is None else loss.rdp
    return ExampleLoss(loss.epsilon, rdp, loss.accountant)


def local_epsilon(noise_multiplier: float, participations: int, delta: float) -> float:
    """Local DP: each client noises its own clipped update; replace one user's data by any other.

    `noise_multiplier` is the noise's deviation over the clip norm C; two updates differ by up to
    2 C, and `participations` of them are one Gaussian mechanism. Without noise it is infinite.
    """
    _check_delta(delta)
    return compose(local_events(noise_multiplier, participations), delta).epsilon


def local_events(noise_multiplier: float, participations: int) -> tuple[Event, ...]:
    """What local DP is composed of; see `local_epsilon`."""
    _check_noise(noise_multiplier)
    return (Event("gaussian", noise_multiplier / 2, participations),)


def _check_noise(noise_multiplier: float) -> None:
    if not (math.isfinite(noise_multiplier) and noise_multiplier >= 0):
        raise FedsimError(
            f"noise_multiplier = {noise_multiplier:g} is no deviation; it must be 0 or more."
        )


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise FedsimError(f"delta = {delta:g} must be between 0 and 1; take 1e-5.")
