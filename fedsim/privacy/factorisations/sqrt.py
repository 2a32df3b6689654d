"""C = A^(1/2), the square root of the prefix sums: nothing to tune and nearly optimal.

Fichtenberger, Henzinger & Upadhyay 2023; Henzinger, Upadhyay & Upadhyay 2023.
"""

from __future__ import annotations

import numpy as np

from fedsim.options import Options as BaseOptions
from fedsim.privacy.factorisations.base import FACTORISATIONS, Fresh, Schema, State
from fedsim.privacy.factorisations.toeplitz import Toeplitz


class SqrtOptions(BaseOptions):
    """Nothing to choose."""


@FACTORISATIONS.register("sqrt")
class Sqrt(Toeplitz):
    """The coefficients of (1 - x)^(-1/2), and of (1 - x)^(1/2) for the inverse.

    C^-1 has no short recursion, so round t draws t vectors anew: a run of T rounds pays T^2 / 2
    draws and keeps no state. For runs of many hundreds of rounds take "blt".
    """

    Options = SqrtOptions

    def __init__(self, schema: Schema, options: BaseOptions) -> None:
        odd, even = 2.0 * np.arange(1, schema.rounds) - 1, 2.0 * np.arange(1, schema.rounds)
        super().__init__(
            schema,
            options,
            coefficients=np.cumprod(np.concatenate([[1.0], odd / even])),
            inverse=np.cumprod(np.concatenate([[1.0], (odd - 2) / even])),
        )

    def _row(self, round: int, fresh: Fresh, state: State) -> tuple[np.ndarray, State]:
        row = self.inverse[0] * fresh(round)
        for past in range(1, round):
            row += self.inverse[round - past] * fresh(past)
        return row, state
