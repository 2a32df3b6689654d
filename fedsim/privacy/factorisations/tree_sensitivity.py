"""How much one user can move a forest of dyadic sums: the dynamic programme of Kairouz et al. 2021.

Appendix D.2: the squared sensitivity is the largest sum, over the nodes, of the square of the
number of the user's rounds below the node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedsim.privacy.factorisations.base import Schema

_NEVER = -(2**60)


class _Block(NamedTuple):
    """Consecutive rounds and the nodes over them.

    `best` is int64 (most participations, first, b): for n = index + 1 participations, the largest
    sum of squares if at least `first` rounds of the block come before the first of them and at
    least `last` after the last; negative where there is no room. It falls in both.
    """

    length: int
    best: np.ndarray


def tree_squared_sensitivity(lengths: Sequence[int], schema: Schema, completed: bool) -> float:
    """sens^2 of one tree after another, `lengths` rounds each, for one user under the schema.

    Only complete subtrees have a node, unless trees are `completed` with zeros to the next power
    of two: then every node over at least one real round counts.
    """
    gap = min(schema.min_separation, schema.rounds)
    leaf = np.full((1, gap, gap), _NEVER)
    leaf[0, 0, 0] = 1
    complete = [_Block(1, leaf)]
    while complete[-1].length * 2 <= max(lengths):
        complete.append(_node(_join(complete[-1], complete[-1], schema)))

    # What comes before the first participation of the whole run does not matter: one column.
    run = _Block(0, np.empty((0, 1, gap), np.int64))
    parts: dict[int, list[_Block]] = {}
    for length in lengths:
        if length not in parts:
            parts[length] = _parts(length, complete, schema, completed)
        for part in parts[length]:
            run = _join(run, part, schema)
    return float(run.best[:, 0, 0].max())


def _parts(length: int, complete: list[_Block], schema: Schema, completed: bool) -> list[_Block]:
    """The subtrees of one tree from left to right; if completed, the one that holds them all."""
    levels = [level for level in range(length.bit_length()) if length >> level & 1]
    if not completed:
        return [complete[level] for level in reversed(levels)]
    whole, height = complete[levels[0]], levels[0]
    while 1 << height < length:
        # The sibling is a complete subtree on the left, or nothing but zeros on the right.
        if length - 1 >> height & 1:
            whole = _join(complete[height], whole, schema)
        whole, height = _node(whole), height + 1
    return [whole]


def _node(block: _Block) -> _Block:
    """The block with one more node, over all of it."""
    count = np.arange(1, len(block.best) + 1)
    return _Block(block.length, block.best + (count**2)[:, None, None])


def _join(left: _Block, right: _Block, schema: Schema) -> _Block:
    """Two blocks side by side: a product in which sums are maxima and products are sums."""
    length = left.length + right.length
    most = min(schema.participations, 1 + (length - 1) // schema.min_separation)
    firsts, gap = left.best.shape[1:]
    best = np.full((most, firsts, gap), _NEVER)

    # All in one of the two: the other adds its length to the rounds before or after.
    after = np.maximum(np.arange(gap) - right.length, 0)
    before = np.maximum(np.arange(firsts) - left.length, 0)
    for alone in (left.best[:, :, after], right.best[:, before, :]):
        n = min(most, len(alone))
        best[:n] = np.maximum(best[:n], alone[:n])

    for n, table in enumerate(left.best[: most - 1], start=1):
        others = right.best[: most - n]
        for between in range(gap):
            # `between` rounds are right of the border, the rest of the gap is left of it.
            column, rows = table[:, gap - 1 - between], others[:, between]
            if column[0] < 0 or rows[0, 0] < 0:
                continue
            target = best[n : n + len(others)]
            np.maximum(target, column[None, :, None] + rows[:, None, :], out=target)
    return _Block(length, best)
