"""How much one user can move a forest of dyadic sums: the dynamic programme of Kairouz et al. 2021.

Appendix D.2: the squared sensitivity is the largest sum, over the nodes, of the square of the
number of the user's rounds below the node.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from fedsim.privacy.factorisations.base import Schema

_NEVER = -(2**60)


class _Block(NamedTuple):
    """Consecutive rounds and the nodes over them.

    `best` is int64 (most participations, firsts, lasts): for n = index + 1 participations, the
    largest sum of squares if at least `first` rounds of the block come before the first of them
    and at least `last` after the last; negative where there is no room. It falls in both, and
    neither has to be known beyond the separation.
    """

    length: int
    best: np.ndarray


def tree_squared_sensitivity(lengths: Sequence[int], schema: Schema, completed: bool) -> float:
    """sens^2 of one tree after another, `lengths` rounds each, for one user under the schema.

    Only complete subtrees have a node, unless trees are `completed` with zeros to the next power
    of two: then every node over at least one real round counts.
    """
    leaf = _Block(1, np.ones((1, 1, 1), np.int64))

    @cache
    def subtree(level: int) -> _Block:
        if level == 0:
            return leaf
        return _node(_join(subtree(level - 1), subtree(level - 1), schema))

    @cache
    def parts(length: int) -> list[_Block]:
        """The subtrees of one tree from left to right; if completed, the one that holds all."""
        levels = [level for level in range(length.bit_length()) if length >> level & 1]
        if not completed:
            return [subtree(level) for level in reversed(levels)]
        whole, height = subtree(levels[0]), levels[0]
        while 1 << height < length:
            # The sibling is a complete subtree on the left, or nothing but zeros on the right.
            if length - 1 >> height & 1:
                whole = _join(subtree(height), whole, schema)
            whole, height = _node(whole), height + 1
        return [whole]

    # What comes before the first participation of the whole run does not matter: one column.
    run = _Block(0, np.empty((0, 1, 0), np.int64))
    for length in lengths:
        for part in parts(length):
            run = _join(run, part, schema, firsts=1)
    return float(run.best[:, 0, 0].max())


def _node(block: _Block) -> _Block:
    """The block with one more node, over all of it."""
    count = np.arange(1, len(block.best) + 1)
    return _Block(block.length, block.best + (count**2)[:, None, None])


def _join(left: _Block, right: _Block, schema: Schema, firsts: int | None = None) -> _Block:
    """Two blocks side by side: a product in which sums are maxima and products are sums."""
    gap, length = schema.min_separation, left.length + right.length
    most = min(schema.participations, 1 + (length - 1) // gap)
    lasts = min(gap, length)
    best = np.full((most, firsts or lasts, lasts), _NEVER)

    # All in one of the two: the other adds its length to the rounds before or after.
    after = np.maximum(np.arange(lasts) - right.length, 0) if left.length else slice(0)
    before = np.maximum(np.arange(best.shape[1]) - left.length, 0)
    for alone in (left.best[:most, :, after], right.best[:most, before, :]):
        target = best[: len(alone), : alone.shape[1], : alone.shape[2]]
        np.maximum(target, alone, out=target)

    for n, table in enumerate(left.best[: most - 1], start=1):
        others = right.best[: most - n]
        # `between` rounds are right of the border, the rest of the gap is left of it.
        for between in range(max(0, gap - table.shape[1]), min(gap, others.shape[1])):
            column, rows = table[:, gap - 1 - between], others[:, between]
            column = column[: np.count_nonzero(column >= 0)]
            rows = rows[:, : np.count_nonzero(rows[0] >= 0)]
            target = best[n : n + len(rows), : len(column), : rows.shape[1]]
            np.maximum(target, column[None, :, None] + rows[:, None, :], out=target)
    return _Block(length, best)
