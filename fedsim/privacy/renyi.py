"""Epsilon by the Renyi accountant: a looser bound than a distribution's, found independently."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from fedsim.privacy.events import Event

_LEAST = 1.0101  # the conversion to epsilon is not used below
_WHOLE_FROM = 64.0  # orders above are whole numbers
_LARGEST = 100_000
# The grid that a search begins with: a - 1 in steps of a quarter, whole numbers above.
_ORDERS = (
    *(1 + (_LEAST - 1) * 1.25**step for step in range(40)),
    *(round(_WHOLE_FROM * 1.25**step) for step in range(20)),
)
_POINTS = (
    6  # between the neighbours of the best order: an even number, none of them the best itself
)
_REFINEMENTS = 4  # curves have a kink where the loss of who is drawn takes over


def renyi(events: Sequence[Event], delta: float) -> tuple[float, tuple[str, ...]]:
    """Epsilon by the best order that was found, and a warning if it is at the end of all.

    A coarse grid first, then ever finer ones about its best; where that is the largest order,
    larger ones. Truncated cohorts are none of the Renyi accountant's.
    """
    # Without replacement the bound is known at whole orders, and interpolated between them.
    whole_from = 2.0 if any(event.kind == "fixed" for event in events) else _WHOLE_FROM
    orders = _whole(np.array(_ORDERS), whole_from)
    curve = rdp_of(events, orders)
    epsilon, best = compute(orders, curve, delta)
    refined = 0
    while refined < _REFINEMENTS:
        last = orders.max()
        if best == last and epsilon > 0 and last < _LARGEST:
            more = np.rint(last * np.array([1.25, 1.5, 2]))
        else:
            more, refined = _whole(_between(orders, best), whole_from), refined + 1
            more = np.setdiff1d(more, orders)
        orders = np.concatenate([orders, more])
        curve = np.concatenate([curve, rdp_of(events, more)])
        epsilon, best = compute(orders, curve, delta)
    warned: tuple[str, ...] = ()
    if epsilon > 0 and best in (orders.min(), orders.max()):
        warned = (
            f"The best RDP order, {best:g}, is at the edge of the grid: epsilon by RDP is loose.",
        )
    return epsilon, warned


def rdp_of(events: Sequence[Event], orders: Sequence[float] | np.ndarray) -> np.ndarray:
    """The Renyi divergence of all events together at each order; infinite where it is not known.

    Without replacement (Wang et al. 2019) `fixed` events bound a replacement, and so a zero-out.
    """
    import dp_accounting as dp
    from dp_accounting.rdp import RdpAccountant

    total = np.zeros(len(orders))
    with _quiet():
        for event in events:
            made: dp.DpEvent = dp.GaussianDpEvent(event.noise_multiplier)
            relation = dp.NeighboringRelation.ADD_OR_REMOVE_ONE
            if event.kind == "poisson":
                made = dp.PoissonSampledDpEvent(event.share, made)
            elif event.kind == "fixed":
                made = dp.SampledWithoutReplacementDpEvent(event.users, event.cohort, made)
                relation = dp.NeighboringRelation.REPLACE_ONE
            known = np.asarray(orders, np.float64)
            # Between whole orders the library's series bounds too much, or does not converge.
            between = (known != np.rint(known)) & (event.kind == "poisson")
            asked = np.where(between, 2, known)
            curve = RdpAccountant(asked, relation).compose(made, event.count).rdp
            curve[between] = [event.count * _integrated(event, order) for order in known[between]]
            total += curve
    return total


def _integrated(event: Event, order: float) -> float:
    """Of (1 - q) N(0, z^2) + q N(1, z^2) from N(0, z^2), by the trapezoidal rule.

    The integrand is analytic within pi z^2 of the real line, so that the rule's error falls
    exponentially with the points (Trefethen & Weideman 2014). It has its mass at 0 and at `order`.
    """
    from scipy.special import logsumexp

    q, z = event.share, event.noise_multiplier
    step = min(z / 4, z * z / 1.5)
    if 24 * z > order:
        x = np.arange(-12 * z, order + 12 * z, step)
    else:
        near = np.arange(-12 * z, 12 * z, step)
        x = np.concatenate([near, order + near])
    ratio = np.logaddexp(math.log1p(-q), math.log(q) + (2 * x - 1) / (2 * z * z))
    log_moment = logsumexp(order * ratio - x * x / (2 * z * z)) + math.log(
        step / (z * math.sqrt(2 * math.pi))
    )
    return max(0.0, float(log_moment)) / (order - 1)


def compute(
    orders: Sequence[float] | np.ndarray, curve: np.ndarray, delta: float
) -> tuple[float, float]:
    """(epsilon, best order) from a curve of Renyi divergences (Canonne, Kamath & Steinke 2020)."""
    from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon

    epsilon, order = compute_epsilon(orders, curve, delta)
    return float(epsilon), float(order)


def _between(orders: np.ndarray, best: float) -> np.ndarray:
    """Orders between the neighbours of the best one."""
    known = np.unique(orders)
    place = int(np.searchsorted(known, best))
    low, high = known[max(place - 1, 0)], known[min(place + 1, len(known) - 1)]
    return 1 + np.geomspace(low - 1, high - 1, _POINTS + 2)[1:-1]


def _whole(orders: np.ndarray, above: float) -> np.ndarray:
    """The orders, whole numbers from there on; ascending, each once."""
    return np.unique(np.where(orders > above, np.rint(orders), orders))


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
