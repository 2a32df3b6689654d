"""Strategy matrices that are constant along diagonals: sensitivity and error from one column.

`coefficients` is always the first column of C, float64 (up to rounds,); what is left out is zero.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedsim.options import Options as BaseOptions
from fedsim.privacy.factorisations.base import Factorisation, Schema


def summed_columns(coefficients: np.ndarray, schema: Schema) -> np.ndarray:
    """(rounds,): the sum of C's columns 0, b, 2b, ..., as many as a user may take part in."""
    total = np.zeros(schema.rounds)
    for start in range(0, schema.reachable * schema.min_separation, schema.min_separation):
        column = coefficients[: schema.rounds - start]
        total[start : start + len(column)] += column
    return total


def squared_sensitivity(coefficients: np.ndarray, schema: Schema) -> float:
    """sens^2 of C for one user under the schema.

    Exact where no two columns of a user overlap, and where the coefficients are non-negative and
    non-increasing: then the worst user comes as early and as often as it may (Kalinin & Lampert
    2024, theorem 2). Any others are bounded from above by the smallest such column over them.
    """
    if len(coefficients) > schema.min_separation:
        coefficients = np.maximum.accumulate(np.abs(coefficients)[::-1])[::-1]
    total = summed_columns(coefficients, schema)
    return float(total @ total)


def weighted_error(
    solve: Callable[[np.ndarray], np.ndarray], weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """sum_s weights_s B_s^2 for B = A C^-1, and its gradient by C's first column, (rounds,).

    `solve` multiplies by C^-1. With weight 1 it is the variance of the last prefix, with weights
    (rounds - s) / rounds the mean over all prefixes. As generating functions B = 1 / (1 - x) c(x),
    so dB = -B dc / c, whose transpose is two more solutions backwards in time.
    """
    impulse = np.zeros(len(weights))
    impulse[0] = 1
    column = np.cumsum(solve(impulse))
    backwards = np.cumsum((2 * weights * column)[::-1])
    return float(weights @ column**2), -solve(solve(backwards))[::-1]


class Toeplitz(Factorisation):
    """Base of the factorisations with such a C: its first column and that of its inverse."""

    def __init__(
        self,
        schema: Schema,
        options: BaseOptions,
        coefficients: np.ndarray,
        inverse: np.ndarray,
    ) -> None:
        super().__init__(schema, options)
        self.coefficients = coefficients
        self.inverse = inverse
        self.squared_sensitivity = squared_sensitivity(coefficients, schema)

    def prefix_variances(self) -> np.ndarray:
        """The sums of squares of the rows of A C^-1."""
        return np.cumsum(np.cumsum(self.inverse) ** 2)
