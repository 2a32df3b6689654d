"""What exposure canaries have that no model saw: how often as much comes by chance."""

from __future__ import annotations

import math

import numpy as np


def chance_of(bits: np.ndarray) -> float:
    """Probability that as many canaries which no model saw have the mean of `bits` or more.

    An unseen canary's rank over the number of candidates is a p-value, so its bits are at most
    exponential with mean 1/ln 2, and sums of them at most a gamma distribution (Fisher's method):
    the value is an upper bound, nearly exact with many references. NaN without canaries.
    """
    n, nats = len(bits), float(np.sum(bits)) * math.log(2)
    if not n:
        return math.nan
    # P(gamma(n) >= x) = exp(-x) (1 + x + ... + x^(n-1) / (n-1)!), its terms by their logarithms.
    terms = [k * math.log(nats) - math.lgamma(k + 1) - nats for k in range(n)] if nats > 0 else [0]
    return min(1.0, math.fsum(math.exp(term) for term in terms))
