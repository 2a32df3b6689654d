"""Tree aggregation: one independent noise per complete dyadic subtree of rounds.

Kairouz et al. 2021, "Practical and Private (Deep) Learning without Sampling or Shuffling", with
Honaker's streaming estimate (2015) of each subtree's sum from its own noise and its children's.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from fedsim.options import Options as BaseOptions
from fedsim.privacy.factorisations.base import (
    FACTORISATIONS,
    Factorisation,
    Fresh,
    Schema,
    State,
)
from fedsim.privacy.factorisations.tree_sensitivity import tree_squared_sensitivity


class TreeOptions(BaseOptions):
    """Where trees end.

    A new tree begins every `restart_every` rounds (0: one tree for the run), on top of the noised
    prefix sum of the old one. With `completion` the last round of a tree fills it up with zeros
    to the next power of two and takes the root's estimate: less noise is carried on, and the
    larger tree is what is accounted.
    """

    restart_every: int = Field(0, ge=0, description="rounds of a tree; 0 is one tree for all")
    completion: bool = Field(False, description="fill up each tree to a power of two at its end")


@FACTORISATIONS.register("tree")
class Tree(Factorisation):
    """Nodes of unit variance; a round adds the difference of two prefix sums' noises.

    The state is the estimate of the newest complete subtree on each level that a later one builds
    on. `fresh` is asked for nodes by a running number, in the order in which they are completed.
    """

    Options = TreeOptions
    options: TreeOptions

    def __init__(self, schema: Schema, options: BaseOptions) -> None:
        super().__init__(schema, options)
        self.longest = min(self.options.restart_every or schema.rounds, schema.rounds)
        full, rest = divmod(schema.rounds, self.longest)
        self.squared_sensitivity = tree_squared_sensitivity(
            [self.longest] * full + [rest] * (rest > 0), schema, self.options.completion
        )

    def prefix_variances(self) -> np.ndarray:
        """Of the estimates that make up a prefix, and of all trees before: they are independent."""
        variances, carried = np.empty(self.schema.rounds), 0.0
        for round in range(1, self.schema.rounds + 1):
            _, offset, top = self._place(round)
            newest = self._own_weights(offset, top)[-1]
            older = [_complete(p) for p in range(top, offset.bit_length()) if offset >> p & 1]
            variances[round - 1] = carried + newest + sum(older)
            if self._last_of_its_tree(round):
                carried = variances[round - 1]
        return variances

    def initial_state(self, size: int) -> State:
        """Zeros; a level is written before it is read."""
        if self.options.completion:
            levels = (self.longest - 1).bit_length()
        else:
            levels = self.longest.bit_length() - 1
        return {_name(level): np.zeros(size) for level in range(levels)}

    def _row(self, round: int, fresh: Fresh, state: State) -> tuple[np.ndarray, State]:
        node, offset, top = self._place(round)
        weights = self._own_weights(offset, top)
        estimate = fresh(node)
        replaced = np.zeros_like(estimate)
        for level in range(top):
            if offset >> level & 1:
                left = state[_name(level)]
                estimate, replaced = estimate + left, replaced + left
            own = weights[level + 1]
            drawn = fresh(node + level + 1)
            estimate = own * drawn + (1 - own) * estimate
        if _name(top) in state:
            state = state | {_name(top): estimate}
        return estimate - replaced, state

    def _place(self, round: int) -> tuple[int, int, int]:
        """The number of the round's leaf, its offset in its tree, and the level that it completes.

        j rounds complete 2j - popcount(j) nodes; those that a completion adds come after them.
        """
        tree, offset = divmod(round - 1, self.longest)
        top = _trailing_ones(offset)
        if self.options.completion and self._last_of_its_tree(round):
            top = offset.bit_length()
        numbers = 2 << (self.longest - 1).bit_length()
        return 1 + tree * numbers + 2 * offset - offset.bit_count(), offset, top

    def _last_of_its_tree(self, round: int) -> bool:
        return round % self.longest == 0 or round == self.schema.rounds

    @staticmethod
    def _own_weights(offset: int, top: int) -> list[float]:
        """For the nodes above leaf `offset`, from level 0: the weight of each one's own noise.

        It is also the variance of the estimate, 1 / (1 + 1 / the children's). A right child adds
        to its sibling's estimate; the sibling right of a left child (only where a tree is being
        completed) holds zeros alone, which need no noise.
        """
        weights = [1.0]
        for level in range(top):
            below = weights[-1] + (_complete(level) if offset >> level & 1 else 0.0)
            weights.append(below / (1 + below))
        return weights


def _complete(level: int) -> float:
    """The variance of the estimate of a subtree of 2^level rounds."""
    return 1 / (2 - 2.0**-level)


def _name(level: int) -> str:
    return f"level {level}"


def _trailing_ones(number: int) -> int:
    return (~number & (number + 1)).bit_length() - 1
