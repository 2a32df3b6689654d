"""Epsilon from dp-accounting: by privacy loss distributions, by Renyi, exact for one Gaussian.

dp-accounting is imported when it is first asked, which takes a second. Its results are upper
bounds: distributions are discretised pessimistically (Doroshenko et al. 2022, "Connect the Dots").
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from fedsim.errors import FedsimError
from fedsim.privacy.claims import rounded_up
from fedsim.privacy.events import Event, merged, rho_of, without_thresholds
from fedsim.privacy.renyi import compute, rdp_of, renyi

# Beyond this (by the coarse Renyi bound) distributions are not computed.
_LARGEST_FOR_PLD = 1e6
_LEAST_FOR_PLD = 5e-4  # noise over sensitivity; amplification means nothing below
_ASYMPTOTIC = 1e-8  # noise over sensitivity
_POINTS = 5e4  # of a distribution
_COARSE = (1.05, 1.1, 1.25, 1.5, 2, 2.5, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Loss:
    """An epsilon, who computed it, a cross-check (None: there is none) and what to know."""

    epsilon: float
    accountant: str
    rdp: float | None
    warnings: tuple[str, ...] = ()


def exact_gaussian(noise: float, delta: float) -> float:
    """Epsilon of one Gaussian of deviation `noise` x sensitivity (Balle & Wang 2018)."""
    from dp_accounting import get_epsilon_gaussian

    if noise < _ASYMPTOTIC:  # where the root is not found; Bun & Steinke 2016, proposition 1.3
        rho = 1 / noise / noise / 2 if noise else math.inf
        return rho + 2 * math.sqrt(rho * math.log(1 / delta))
    return float(get_epsilon_gaussian(noise, delta))


def compose(events: Iterable[Event], delta: float, grid: float = 1.0) -> Loss:
    """Epsilon of all events together, whatever their order: exactly where they are one Gaussian,
    else by the privacy loss distributions of all on one grid.

    Records replace one another where all events are `fixed` and are zeroed out else: what bounds
    any replacement bounds that by nothing too. `grid` > 1 coarsens the discretisation, for
    searches, which then also do without a cross-check.
    """
    events, chance = without_thresholds(events)
    if not chance:
        return _composed(merged(events), delta, grid)
    if chance >= delta:
        raise FedsimError(
            f"delta = {delta:.3g} is used up by the vocabulary, whose threshold lets a word of one "
            f"person alone through with a chance of {chance:.3g}; lower data.vocabulary_delta, or "
            "raise delta."
        )
    loss = _composed(merged(events), delta - chance, grid)
    epsilon = loss.epsilon - math.log1p(-chance)
    return dataclasses.replace(
        loss,
        epsilon=epsilon,
        accountant=f"{loss.accountant}; {rounded_up(chance, 3)} of delta for a threshold",
    )


@lru_cache(maxsize=4096)
def _composed(events: tuple[Event, ...], delta: float, grid: float) -> Loss:
    if not events:
        return Loss(0.0, "nothing was released", 0.0)
    if not events[0].noise_multiplier:
        return Loss(math.inf, "without noise no bound exists", math.inf)
    known = all(event.kind != "truncated" for event in events)  # to the Renyi accountant
    if len(events) == 1 and events[0].kind == "gaussian":
        rdp, warned = renyi(events, delta) if grid <= 1 else (None, ())
        epsilon = exact_gaussian(events[0].noise_multiplier, delta)
        return Loss(epsilon, f"exact Gaussian, {_name()}", rdp, warned)
    plain = _unamplified(events, delta)
    if min(event.noise_multiplier for event in events) < _LEAST_FOR_PLD:
        return plain
    step = grid * _step(events, _coarse_bound(events, delta))
    rdp, warned = renyi(events, delta) if known and (grid <= 1 or math.isinf(step)) else (None, ())
    if math.isinf(step):
        return _without_pld(plain, rdp, warned)
    epsilon = float(_distribution(events, step).get_epsilon_for_delta(delta))
    if math.isinf(epsilon):  # a delta below what is cut off of the distribution
        return _without_pld(plain, rdp, warned)
    return _with_rdp(epsilon, f"{_pld_name(events)}, {_name()}, h = {step:g}", rdp, warned)


def _distribution(events: Sequence[Event], step: float) -> Any:
    """The privacy loss distribution of all events; the pessimistic ones of dp-accounting."""
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import privacy_loss_distribution as pld

    whole = pld.identity(value_discretization_interval=step)
    for event in events:
        noise, count = event.noise_multiplier, event.count
        if event.kind == "fixed":
            one = fixed_size_pld(2 * noise, event.share, step)
        elif event.kind == "truncated":
            one = pld.from_truncated_subsampled_gaussian_mechanism(
                event.users, event.rate, event.cut, noise, value_discretization_interval=step,
                neighboring_relation=NeighboringRelation.REPLACE_SPECIAL,
            )  # fmt: skip
        else:  # zeroing out under one rate is what adding and removing is under one rate
            one = pld.from_gaussian_mechanism(
                noise, value_discretization_interval=step, sampling_prob=event.share
            )
        whole = whole.compose(one.self_compose(count) if count > 1 else one)
    return whole


def _pld_name(events: Sequence[Event]) -> str:
    if any(event.kind == "fixed" for event in events):
        return "PLD of the dominating pair (Zhu et al. 2022)"
    return "PLD"


def fixed_size_pld(noise: float, rate: float, step: float) -> Any:
    """The privacy loss distribution of one round of a fixed-size cohort, replace one.

    With P = N(2 / z, 1) and Q = N(0, 1), at orders e^eps >= 1 the divergence is at most that of
    (1 - q) Q + q P from Q (Balle et al. 2018, theorem 9 and its use of advanced joint convexity:
    the other sample, without the replaced user, is again one replacement away). As the relation
    is symmetric, the profile below 1 is its reflection f(a) = 1 - a + a f(1 / a). The whole is
    convex and so a dominating pair's, which composes (Zhu, Dong & Wang 2022, theorems 10 and 11).
    """
    import numpy as np
    from dp_accounting.pld import pld_pmf, privacy_loss_distribution, privacy_loss_mechanism

    one_sided = privacy_loss_mechanism.GaussianPrivacyLoss(
        noise / 2,
        sampling_prob=rate,
        adjacency_type=privacy_loss_mechanism.AdjacencyType.REMOVE,
    )
    points = math.ceil(one_sided.connect_dots_bounds().epsilon_upper / step)
    positive = step * np.arange(points + 1)
    above = np.asarray(one_sided.get_delta_for_epsilon(positive))
    below = -np.expm1(-positive) + np.exp(-positive) * above
    # Rounding must not let the profile rise.
    profile = np.minimum.accumulate(np.concatenate([below[:0:-1], above]).clip(0, 1))
    return privacy_loss_distribution.PrivacyLossDistribution(
        pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(step, -points, points, profile)
    )


def _step(events: Sequence[Event], bound: float) -> float:
    """The distance h of a distribution's points; infinite where none can be computed.

    The unsampled loss of a round with noise z reaches to about 1/(2 z^2) + 10/z, that of the whole
    run to about `bound`. So h is near 1e-4 where z = 1 and q = 0.01, larger for a large loss, where
    that would be a waste, and smaller for a small one, where it would be coarse.
    """
    if bound > _LARGEST_FOR_PLD:
        return math.inf
    reach = max(_reach(event) for event in events)
    widest = max(reach, bound / 2) / _POINTS
    unit = 10.0 ** math.floor(math.log10(widest))
    step = max(factor * unit for factor in (1, 2, 5) if factor * unit <= widest)
    return float(f"{step:.1g}")


def _reach(event: Event) -> float:
    """How far the loss of one of an event's rounds reaches, ln(1 - q + q e^l)."""
    noise, share = event.noise_multiplier, event.share
    if event.kind == "truncated":  # another user comes in for the one who is gone
        noise /= 2
    if event.kind == "gaussian":
        noise /= math.sqrt(event.count)
    loss = 1 / (2 * noise**2) + 10 / noise
    if loss > 100:  # where e^loss is beyond what a float can hold
        return loss + math.log(share)
    return math.log1p(share * math.expm1(loss))


def _coarse_bound(events: Sequence[Event], delta: float) -> float:
    """About the epsilon of the whole, only to choose the step: as if nothing were truncated."""
    plain = [
        dataclasses.replace(event, kind="poisson", users=None, cut=None)
        if event.kind == "truncated"
        else event
        for event in events
    ]
    return compute(_COARSE, rdp_of(plain, _COARSE), delta)[0]


def _unamplified(events: Sequence[Event], delta: float) -> Loss:
    """As if everybody were in every round, which is one Gaussian with the same sensitivities."""
    noise = (2 * rho_of(events)) ** -0.5
    return Loss(
        exact_gaussian(noise, delta), f"exact Gaussian without amplification, {_name()}", None
    )


def _without_pld(plain: Loss, rdp: float | None, warned: tuple[str, ...]) -> Loss:
    if rdp is None or plain.epsilon <= rdp:
        return dataclasses.replace(plain, rdp=rdp)
    return Loss(rdp, f"RDP, {_name()} (too large for a PLD)", rdp, warned)


def _with_rdp(epsilon: float, name: str, rdp: float | None, warned: tuple[str, ...]) -> Loss:
    if rdp is not None and rdp < epsilon:
        warned += (
            f"RDP's epsilon, {rdp:.6g}, is below the PLD's: the loss of a round is small against "
            "the discretisation.",
        )
    return Loss(epsilon, name, rdp, warned)


def _name() -> str:
    return f"dp-accounting {version('dp-accounting')}"
