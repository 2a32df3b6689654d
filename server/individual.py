"""Aggregates over replies of one user each, for strategies that look at single updates.

Neither depends on the order of the replies: `Reweighed` adds integers, `Rows` sorts by user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from fedsim.parameters import Layout
from fedsim.updates import RESOLUTION, Aggregate, ChunkUpdate, Contribution, UserResult

BLOCK = 1 << 14  # coordinates at a time: with a hundred rows they stay in a processor's cache


def update_of(update: ChunkUpdate) -> np.ndarray:
    """The one user's own update, float32 (size,), from its multiple by the user's sequences."""
    (result,) = update.results
    return (update.total * (RESOLUTION / result.sequences)).astype(np.float32)


class Reweighed(Aggregate):
    """The sum with other weights than the users' sequences, divided by a weight of its own.

    `factor(result)`, 0 to 1, is what a user's update times its sequences is multiplied with,
    rounded to the nearest of the integers that the sum is made of; `divisor(results)` is positive.
    """

    def __init__(
        self,
        layout: Layout,
        contribution: Contribution,
        factor: Callable[[UserResult], float],
        divisor: Callable[[list[UserResult]], float],
    ) -> None:
        super().__init__(layout, contribution)
        self._factor = factor
        self._divisor = divisor

    def _take(self, update: ChunkUpdate) -> None:
        (result,) = update.results
        self.total += np.rint(update.total * self._factor(result)).astype(np.int64)

    def mean(self) -> np.ndarray:
        """See `Aggregate.mean`."""
        results = self.results
        return self._over(self._divisor(results) if results else 1.0)


class Rows(Aggregate):
    """Every user's own update, kept until all are there; `mean` is what `centre` makes of them.

    `centre(rows, results)` gets float32 rows of shape (size,) and the users' results, both
    ascending by user, at least one of each.
    """

    def __init__(
        self,
        layout: Layout,
        contribution: Contribution,
        centre: Callable[[list[np.ndarray], list[UserResult]], np.ndarray],
    ) -> None:
        super().__init__(layout, contribution)
        self._rows: dict[int, np.ndarray] = {}
        self._centre = centre

    def _take(self, update: ChunkUpdate) -> None:
        self._rows[update.results[0].user] = update_of(update)

    def mean(self) -> np.ndarray:
        """The centre, float32; zero where nobody completed."""
        if not self._rows:
            return np.zeros(len(self.total), np.float32)
        return self._centre([self._rows[user] for user in sorted(self._rows)], self.results)


def blocks(rows: list[np.ndarray]) -> Iterator[tuple[slice, np.ndarray]]:
    """(place, values) of so many coordinates at a time, float32 (rows, at most BLOCK)."""
    for start in range(0, len(rows[0]), BLOCK):
        part = slice(start, start + BLOCK)
        yield part, np.stack([row[part] for row in rows])


def combination(rows: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """The sum of weight x row, added in float64 in the order of the rows; float32 (size,)."""
    out = np.empty(len(rows[0]), np.float32)
    for part, values in blocks(rows):
        total = np.zeros(values.shape[1])
        for weight, row in zip(weights, values, strict=True):
            total += weight * row.astype(np.float64)
        out[part] = total
    return out


def row_bytes(cohort: int, parameters: int) -> int:
    """What the rows of a cohort take."""
    return 4 * cohort * parameters
