"""What a factorisation of the prefix sums is: its sensitivity, its error, its stream of noise.

DP-FTRL (Kairouz et al. 2021; Denisov et al. 2022) needs the prefix sums A x of the rounds' sums x,
A the lower triangle of ones. A strategy matrix C releases x + C^-1 Z with independent Gaussian
rows Z, which is private as one Gaussian mechanism of sensitivity sens(C), whatever the order in
which users come as long as they keep to the schema. Everything here is for contributions of norm
at most 1 and noise Z of unit variance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedsim.errors import FedsimError
from fedsim.options import Options as BaseOptions
from fedsim.registry import Registry

State = dict[str, np.ndarray]
Fresh = Callable[[int], np.ndarray]
FACTORISATIONS: Registry[type[Factorisation]] = Registry("factorisation")


@dataclass(frozen=True)
class Schema:
    """How often one user may take part: what the sensitivity assumes and the sampler enforces.

    A user is in at most `participations` of the `rounds` rounds, and any two of them, i < j, are
    at least j - i = `min_separation` apart (Kairouz et al. count the rounds between, one less).
    """

    rounds: int
    participations: int
    min_separation: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise FedsimError(f"{name} = {value} is too few for DP-FTRL; it must be 1 or more.")

    @property
    def reachable(self) -> int:
        """The participations for which there is room."""
        return min(self.participations, 1 + (self.rounds - 1) // self.min_separation)


class Factorisation:
    """Base: a schema and options in, pure rows of noise out."""

    Options: ClassVar[type[BaseOptions]] = BaseOptions

    # The largest |C (x - x')|^2 over users and patterns that the schema allows.
    squared_sensitivity: float

    def __init__(self, schema: Schema, options: BaseOptions) -> None:
        self.schema = schema
        self.options = options

    def prefix_variances(self) -> np.ndarray:
        """float64 (rounds,): the variance, per coordinate, of the noise in each prefix sum."""
        raise NotImplementedError

    def initial_state(self, size: int) -> State:
        """State before round 1, for `size` parameters; its names and shapes never change."""
        return {}

    def noise(self, round: int, fresh: Fresh, state: State) -> tuple[np.ndarray, State]:
        """float64 (size,): what to add to the sum of `round`, counted from 1, and the new state.

        `fresh(index)` is the standard normal vector (size,) of that index: the same each time it
        is asked for, independent of those of all other indices. Arguments are left as they were;
        the new state shares the arrays that did not change. A round beyond the schema's, which
        the sensitivity does not cover, is a ValueError.
        """
        if not 1 <= round <= self.schema.rounds:
            raise ValueError(f"round {round} of {self.schema.rounds}")
        return self._row(round, fresh, state)

    def _row(self, round: int, fresh: Fresh, state: State) -> tuple[np.ndarray, State]:
        raise NotImplementedError
