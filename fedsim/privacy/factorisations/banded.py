"""The best banded Toeplitz C: no two rounds of a user meet, so that sens^2 is their number.

Choquette-Choo et al. 2023, "(Amplified) Banded Matrix Factorization"; McKenna 2024, "Scaling up
the Banded Matrix Factorization Mechanism".
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from fedsim.errors import FedsimError
from fedsim.options import Options as BaseOptions
from fedsim.privacy.factorisations.base import FACTORISATIONS, Fresh, Schema, State
from fedsim.privacy.factorisations.toeplitz import Toeplitz, weighted_error


class BandedOptions(BaseOptions):
    """`bands`: non-zero diagonals, 0 for as many as min_separation allows.

    The server keeps bands - 1 vectors as long as the model.
    """

    bands: int = Field(0, ge=0)


@FACTORISATIONS.register("banded")
class Banded(Toeplitz):
    """Unit columns with the least mean variance of all prefix sums.

    The state is the last bands - 1 rows, each in the place of the one that it outlived.
    """

    Options = BandedOptions
    options: BandedOptions

    def __init__(self, schema: Schema, options: BandedOptions) -> None:
        from scipy.signal import lfilter  # not at start-up: it takes longer than all the rest

        bands = options.bands or schema.min_separation
        if bands > schema.min_separation:
            raise FedsimError(
                f"bands = {bands} is more than min_separation = {schema.min_separation}, where a "
                f"user's rounds would meet; lower it to {schema.min_separation} or less."
            )
        coefficients = optimal_bands(schema.rounds, min(bands, schema.rounds))
        impulse = np.zeros(schema.rounds)
        impulse[0] = 1
        super().__init__(schema, options, coefficients, lfilter([1.0], coefficients, impulse))

    def initial_state(self, size: int) -> State:
        """Rows of zeros."""
        return {f"row {place}": np.zeros(size) for place in range(len(self.coefficients) - 1)}

    def _row(self, round: int, fresh: Fresh, state: State) -> tuple[np.ndarray, State]:
        own, *others = self.coefficients
        row = fresh(round).copy()
        for lag, coefficient in enumerate(others[: round - 1], start=1):
            row -= coefficient * state[f"row {(round - lag) % len(others)}"]
        row /= own
        return row, state | {f"row {round % len(others)}": row} if others else state


def optimal_bands(rounds: int, bands: int) -> np.ndarray:
    """float64 (bands,) of norm 1: the least mean of the prefixes' variances, by L-BFGS."""
    from scipy.optimize import minimize
    from scipy.signal import lfilter

    weights = np.arange(rounds, 0, -1) / rounds

    def logarithm(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        """Of error x norm^2, which does not depend on the scale."""
        error, gradient = weighted_error(lambda x: lfilter([1.0], coefficients, x), weights)
        squared = float(coefficients @ coefficients)
        slope = gradient[:bands] / error + 2 * coefficients / squared
        return float(np.log(error * squared)), slope

    lags = np.arange(1, bands)
    start = np.cumprod(np.concatenate([[1.0], (2 * lags - 1) / (2 * lags)]))
    tight = {"maxiter": 2_000, "maxfun": 4_000, "ftol": 1e-15, "gtol": 1e-10, "maxcor": 30}
    found = minimize(logarithm, start, jac=True, method="L-BFGS-B", options=tight).x
    return found / np.linalg.norm(found)
