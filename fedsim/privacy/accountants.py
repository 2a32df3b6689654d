"""Epsilon from dp-accounting: by privacy loss distributions, by Renyi, exact for one Gaussian.

dp-accounting is imported when it is first asked, which takes a second. Its results are upper
bounds: distributions are discretised pessimistically (Doroshenko et al. 2022, "Connect the Dots").
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from fedsim.errors import FedsimError

# Beyond this (by the coarse Renyi bound) distributions are not computed.
_LARGEST_FOR_PLD = 1e6
_POINTS = 5e4  # of a distribution
_COARSE = (1.05, 1.1, 1.25, 1.5, 2, 2.5, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256)
_LARGE = tuple(round(64 * 1.12**step) for step in range(1, 38))  # 72 .. 4233
_ORDERS = (
    *(1 + step / 20 for step in range(1, 40)),
    *(3 + step / 10 for step in range(80)),
    *range(11, 65),
    *_LARGE,
)
# Sampling without replacement costs order^2 up to 256.
_WOR_ORDERS = (1.1, 1.25, 1.5, 1.75, *range(2, 33), *range(36, 65, 4), *_LARGE[::4])
_GAUSSIAN_ORDERS = tuple(1 + 10 ** (step / 100) for step in range(-180, 700))


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

    return float(get_epsilon_gaussian(noise, delta))


def gaussian(noise: float, delta: float) -> Loss:
    """One Gaussian mechanism, with the Renyi accountant's looser number."""
    import dp_accounting

    rdp, warned = _renyi(_GAUSSIAN_ORDERS, dp_accounting.GaussianDpEvent(noise), delta)
    return Loss(exact_gaussian(noise, delta), f"exact Gaussian, {_name()}", rdp, warned)


@lru_cache(maxsize=4096)
def sampled_gaussians(
    events: tuple[tuple[float, float, int], ...], delta: float, grid: float = 1.0
) -> Loss:
    """Poisson-sampled Gaussians (noise, rate, count) composed; add or remove one.

    `grid` coarsens the discretisation, for searches, which then also do without a cross-check.
    """
    import dp_accounting as dp
    from dp_accounting.pld import PLDAccountant

    composed = dp.ComposedDpEvent(
        [
            dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise)), count)
            for noise, rate, count in events
        ]
    )
    step = grid * _step(events, _renyi(_COARSE, composed, delta)[0])
    rdp, warned = (None, ()) if grid > 1 else _renyi(_ORDERS, composed, delta)
    if math.isinf(step):
        return _renyi_alone(_renyi(_ORDERS, composed, delta))
    accountant = PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE, step)
    epsilon = float(accountant.compose(composed).get_epsilon(delta))
    if math.isinf(epsilon) and grid <= 1:  # a delta below what is cut off of the distribution
        return _renyi_alone((rdp if rdp is not None else math.inf, warned))
    return _with_rdp(epsilon, f"PLD, {_name()}, h = {step:g}", rdp, warned)


@lru_cache(maxsize=256)
def truncated_gaussian(
    noise: float, users: int, rate: float, cut: int, rounds: int, delta: float, grid: float = 1.0
) -> Loss:
    """Poisson cohorts of at most `cut`; zero-out one. The Renyi accountant does not know it."""
    import dp_accounting as dp
    from dp_accounting.pld import PLDAccountant

    # Only to choose the step: how large the loss is without truncation. Where a cohort is cut,
    # another user comes in for the one who is gone, which is half the noise.
    plain = dp.SelfComposedDpEvent(
        dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise)), rounds
    )
    step = grid * _step([(noise / 2, rate, rounds)], _renyi(_COARSE, plain, delta)[0])
    if math.isinf(step):
        raise FedsimError(
            f"noise_multiplier = {noise:g} is too small to account truncated cohorts; raise it, "
            "or take sampler 'poisson'."
        )
    event = dp.TruncatedSubsampledGaussianDpEvent(users, rate, cut, noise)
    accountant = PLDAccountant(dp.NeighboringRelation.REPLACE_SPECIAL, step)
    accountant.compose(event, rounds)
    return Loss(float(accountant.get_epsilon(delta)), f"PLD, {_name()}, h = {step:g}", None)


@lru_cache(maxsize=256)
def fixed_size_gaussian(
    noise: float, users: int, cohort: int, rounds: int, delta: float, grid: float = 1.0
) -> Loss:
    """Cohorts of fixed size, drawn without replacement; replace one.

    Two users in each other's place move the sum by up to 2 C, so that the Renyi accountant (Wang
    et al. 2019) is given half the noise. Its bound is loose; the distribution is `fixed_size_pld`.
    """
    import dp_accounting as dp

    event = dp.SampledWithoutReplacementDpEvent(users, cohort, dp.GaussianDpEvent(noise / 2))
    composed = dp.SelfComposedDpEvent(event, rounds)
    relation = dp.NeighboringRelation.REPLACE_ONE
    bound = _renyi(_COARSE, composed, delta, relation)[0]
    step = grid * _step([(noise / 2, cohort / users, rounds)], bound)
    if math.isinf(step):
        return _renyi_alone(_renyi(_WOR_ORDERS, composed, delta, relation))
    rdp, warned = (None, ()) if grid > 1 else _renyi(_WOR_ORDERS, composed, delta, relation)
    loss = fixed_size_pld(noise, cohort / users, step).self_compose(rounds)
    epsilon = float(loss.get_epsilon_for_delta(delta))
    name = f"PLD of the dominating pair (Zhu et al. 2022), {_name()}, h = {step:g}"
    return _with_rdp(epsilon, name, rdp, warned)


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


def _step(rounds: Sequence[tuple[float, float, int]], bound: float) -> float:
    """The distance h of a distribution's points; infinite where none can be computed.

    The unsampled loss of a round with noise z reaches to about 1/(2 z^2) + 10/z, that of the whole
    run to about `bound`. So h is near 1e-4 where z = 1 and q = 0.01, larger for a large loss, where
    that would be a waste, and smaller for a small one, where it would be coarse.
    """
    if bound > _LARGEST_FOR_PLD:
        return math.inf
    reach = max(_log_mixed(rate, 1 / (2 * noise**2) + 10 / noise) for noise, rate, _ in rounds)
    widest = max(reach, bound / 2) / _POINTS
    unit = 10.0 ** math.floor(math.log10(widest))
    step = max(factor * unit for factor in (1, 2, 5) if factor * unit <= widest)
    return float(f"{step:.1g}")


def _log_mixed(rate: float, loss: float) -> float:
    """ln(1 - q + q e^loss), also where e^loss is beyond what a float can hold."""
    if loss > 100:
        return loss + math.log(rate)
    return math.log1p(rate * math.expm1(loss))


def _renyi(
    orders: tuple[float, ...], event: Any, delta: float, relation: Any = None
) -> tuple[float, tuple[str, ...]]:
    """Epsilon by the Renyi accountant, and a warning if another order would have been better."""
    import dp_accounting as dp
    from dp_accounting.rdp import RdpAccountant

    with _quiet():
        accountant = RdpAccountant(orders, relation or dp.NeighboringRelation.ADD_OR_REMOVE_ONE)
        epsilon, order = accountant.compose(event).get_epsilon_and_optimal_order(delta)
    warned: tuple[str, ...] = ()
    if epsilon > 0 and order in (orders[0], orders[-1]):
        warned = (
            f"The best RDP order, {order:g}, is at the edge of the grid: epsilon by RDP is loose.",
        )
    return float(epsilon), warned


def _with_rdp(epsilon: float, name: str, rdp: float | None, warned: tuple[str, ...]) -> Loss:
    if rdp is not None and rdp < epsilon:
        warned += (
            f"RDP's epsilon, {rdp:.6g}, is below the PLD's: the loss of a round is small against "
            "the discretisation.",
        )
    return Loss(epsilon, name, rdp, warned)


def _renyi_alone(found: tuple[float, tuple[str, ...]]) -> Loss:
    return Loss(found[0], f"RDP, {_name()} (too large for a PLD)", found[0], found[1])


@contextmanager
def _quiet() -> Iterator[None]:
    """dp-accounting logs each order that it leaves out, which only loosens the cross-check."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _name() -> str:
    return f"dp-accounting {version('dp-accounting')}"
