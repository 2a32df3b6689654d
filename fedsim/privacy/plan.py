"""What a private run does, as an accountant sees it, and which combinations have a guarantee."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from fedsim.errors import FedsimError
from fedsim.options import Options, validated
from fedsim.privacy.claims import rounded_up
from fedsim.privacy.events import Event
from fedsim.privacy.factorisations import FACTORISATIONS, Schema
from fedsim.registry import nearest

# Mechanism -> samplers for which there is a theorem. Correlated noise (tree, sqrt, banded, blt)
# holds for any order that keeps k and b; amplification by sampling is known for bands alone.
SAMPLERS = {
    "gaussian": ("poisson", "truncated", "fixed", "cyclic"),
    "tree": ("cyclic",),
    "sqrt": ("cyclic",),
    "banded": ("cyclic", "groups"),
    "blt": ("cyclic",),
}
MOST, MOST_NOISE = 10**12, 1e6  # beyond them the accountants' numbers overflow
LEAST_NOISE = 1e-3  # that a calibration looks at
SMALL_POPULATION = 1_000
_OVERFLOW = 1e-9


@dataclass(frozen=True)
class Plan:
    """A run with user-level central DP.

    `noise_multiplier` z is the standard deviation of the Gaussian noise on the sum of clipped
    updates, over the clip norm; with correlated noise that of one row of Z, as Gboard's papers
    have it, so that the accounting divides it by the strategy's sensitivity. `participations` (k)
    and `min_separation` (b: two rounds i < j of one user have j - i >= b) are what a cyclic
    sampler keeps; with "groups" b is the number of groups. `max_cohort` is where "truncated"
    cuts; `options` are those of the factorisation. `before` is what was released of the same users
    before round 1, once, whose sensitivity is that of zeroing one out.
    """

    mechanism: str
    noise_multiplier: float
    delta: float
    users: int
    cohort: int
    rounds: int
    sampler: str
    participations: int | None = None
    min_separation: int | None = None
    max_cohort: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    before: tuple[Event, ...] = ()

    @property
    def rate(self) -> float:
        """The share of users in a round, q = m / N."""
        return self.cohort / self.users


def default_delta(users: int) -> float:
    """N^-1.1, the recommendation of "How to DP-fy ML" (Ponomareva et al. 2023)."""
    if users < 2:
        raise FedsimError(f"users = {users} is too few for a guarantee; it must be 2 or more.")
    return float(users**-1.1)


def checked(plan: Plan) -> Plan:
    """The plan with what follows from the rest filled in, or one sentence on what to change."""
    _check_names(plan)
    _check_numbers(plan)
    if plan.sampler == "cyclic":
        plan = _cyclic(plan)
    elif plan.participations is not None:
        raise FedsimError(
            f"participations = {plan.participations} has no effect with sampler "
            f"'{plan.sampler}', which keeps no cap; leave it out, or take sampler 'cyclic'."
        )
    if plan.sampler == "groups":
        plan = _groups(plan)
    elif plan.sampler != "cyclic" and plan.min_separation is not None:
        raise FedsimError(
            f"min_separation = {plan.min_separation} has no effect with sampler "
            f"'{plan.sampler}', which keeps none; leave it out, or take sampler 'cyclic'."
        )
    plan = _truncated(plan)
    _options(plan)
    return plan


def warnings(plan: Plan) -> list[str]:
    """What a reader of the guarantee should know, though it holds."""
    said = []
    # The recommended default is itself above 1/(10 N), for any N that there is.
    if plan.delta > 1 / (10 * plan.users) and plan.delta != default_delta(plan.users):
        said.append(
            f"delta = {rounded_up(plan.delta, 3)} is more than 1/(10 N) = "
            f"{1 / (10 * plan.users):.3g}, which is "
            "generous: it bounds how often a user may be given away altogether."
        )
    if plan.users < SMALL_POPULATION:
        said.append(
            f"N = {plan.users} users are few: a small epsilon and a useful model need thousands."
        )
    return said


def squared_sensitivity(plan: Plan, participations: int) -> float:
    """Of a checked plan's strategy matrix, to a user who takes part up to `participations` times.

    Independent noise is the identity matrix, whose squared sensitivity is that number.
    """
    if plan.mechanism == "gaussian":
        return float(participations)
    schema = Schema(plan.rounds, participations, plan.min_separation or 1)
    return _squared_sensitivity(plan.mechanism, schema, _options(plan))


@lru_cache(maxsize=1024)
def _squared_sensitivity(mechanism: str, schema: Schema, options: Options) -> float:
    return float(FACTORISATIONS[mechanism](schema, options).squared_sensitivity)


def _check_names(plan: Plan) -> None:
    if plan.mechanism not in SAMPLERS:
        raise FedsimError(
            f"There is no mechanism '{plan.mechanism}': {nearest(plan.mechanism, SAMPLERS)}"
        )
    known = sorted({name for names in SAMPLERS.values() for name in names})
    if plan.sampler not in known:
        raise FedsimError(f"There is no sampler '{plan.sampler}': {nearest(plan.sampler, known)}")
    allowed = SAMPLERS[plan.mechanism]
    if plan.sampler not in allowed:
        advice = f"take sampler '{allowed[-1]}'"
        if plan.sampler == "groups":
            advice = (
                "take mechanism 'banded', or sampler "
                f"'{'poisson' if plan.mechanism == 'gaussian' else 'cyclic'}'"
            )
        elif plan.mechanism != "gaussian":
            advice += ", or mechanism 'gaussian'"
        raise FedsimError(
            f"There is no guarantee for mechanism '{plan.mechanism}' with sampler "
            f"'{plan.sampler}'; {advice}."
        )


def _check_numbers(plan: Plan) -> None:
    for name in ("users", "cohort", "rounds", "participations", "min_separation", "max_cohort"):
        value, least = getattr(plan, name), int(name != "rounds")
        if value is not None and value < least:
            raise FedsimError(f"{name} = {value} is too few; it must be {least} or more.")
        if value is not None and value > MOST:
            raise FedsimError(f"{name} = {value} is too many; it must be {MOST:,} or fewer.")
    if plan.cohort > plan.users:
        raise FedsimError(
            f"cohort = {plan.cohort} is more than the {plan.users} users that there are; lower it."
        )
    if not 0 <= plan.noise_multiplier <= MOST_NOISE:
        raise FedsimError(
            f"noise_multiplier = {plan.noise_multiplier:g} is no deviation; it must be from 0 to "
            f"{MOST_NOISE:g}, and is usually between 0.3 and 10."
        )
    if not 0 < plan.delta < 1 / plan.users:
        raise FedsimError(
            f"delta = {plan.delta:g} must be above 0 and below 1/N = {1 / plan.users:g}, or "
            f"the guarantee allows giving away a user; take N^-1.1 = "
            f"{default_delta(plan.users):.3g}."
        )


def _cyclic(plan: Plan) -> Plan:
    """Fill in k and b, or refuse those that the fixed order cannot keep.

    Round t = 1 .. T takes the positions (t-1) m .. t m - 1, modulo N, of an order that never
    changes. These are T m consecutive numbers, so that a position comes up ceil(T m / N) times at
    most (never twice in a round, since m <= N). A user at position p is in the rounds
    floor(p / m) + 1 and floor((p + N) / m) + 1, and these are floor(N / m) or one more apart.
    """
    least, farthest = -(-plan.rounds * plan.cohort // plan.users), plan.users // plan.cohort
    k, b = plan.participations or least, plan.min_separation or farthest
    if k < least:
        raise FedsimError(
            f"participations = {k} cannot be kept: {plan.rounds} rounds of {plan.cohort} among "
            f"{plan.users} users take somebody {least} times; allow {least}, or make it "
            f"{k * plan.users // plan.cohort} rounds."
        )
    if b > farthest:
        raise FedsimError(
            f"min_separation = {b} cannot be kept: {plan.users} users in cohorts of "
            f"{plan.cohort} come again after {farthest} rounds; lower it to {farthest}."
        )
    return dataclasses.replace(plan, participations=k, min_separation=b)


def _groups(plan: Plan) -> Plan:
    """b groups take turns, each sampled by coins; bands reach at most to the group's next turn."""
    bands = getattr(_options(plan), "bands", None)
    groups = plan.min_separation or bands
    if not groups:
        raise FedsimError("Sampler 'groups' needs min_separation, the number of groups; give it.")
    if bands and bands > groups:
        raise FedsimError(
            f"bands = {bands} is more than the {groups} groups, so that one user's noise would "
            f"be correlated; lower it to {groups}, or raise min_separation."
        )
    if groups * plan.cohort > plan.users:
        raise FedsimError(
            f"min_separation = {groups} groups of {plan.users} users are smaller than the cohort "
            f"of {plan.cohort}; lower it to {plan.users // plan.cohort}, or the cohort to "
            f"{plan.users // groups}."
        )
    return dataclasses.replace(plan, min_separation=groups)


def _truncated(plan: Plan) -> Plan:
    """Where to cut a Poisson cohort: by default where fewer than one in 10^9 would be."""
    if plan.sampler != "truncated":
        if plan.max_cohort is not None:
            raise FedsimError(
                f"max_cohort = {plan.max_cohort} has no effect with sampler '{plan.sampler}'; "
                "leave it out, or take sampler 'truncated'."
            )
        return plan
    if plan.max_cohort is None:
        return dataclasses.replace(plan, max_cohort=largest_cohort(plan.users, plan.cohort))
    if not plan.cohort <= plan.max_cohort <= plan.users:
        raise FedsimError(
            f"max_cohort = {plan.max_cohort} must be between the expected cohort {plan.cohort} "
            f"and the {plan.users} users; leave it out for the usual choice."
        )
    return plan


def largest_cohort(users: int, cohort: int) -> int:
    """What a Poisson cohort of so many in expectation exceeds once in 10^9 rounds."""
    from scipy.stats import binom

    return min(int(binom.isf(_OVERFLOW, users, cohort / users)), users)


def _options(plan: Plan) -> Options:
    """The factorisation's options, typed; the plain Gaussian mechanism has none."""
    kind = Options if plan.mechanism == "gaussian" else FACTORISATIONS[plan.mechanism].Options
    if plan.options and not kind.model_fields:
        key = next(iter(plan.options))
        raise FedsimError(
            f"{key} has no effect with mechanism '{plan.mechanism}', which has nothing to "
            "choose; leave it out."
        )
    return validated(kind, plan.options, "")
