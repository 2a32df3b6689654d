"""The row space of a linear layer's gradient: the span of everything that went into the layer.

Over N inputs x with gradients g of the outputs, the gradient of the weight is the sum of g x^T: its
rows are mixtures of the inputs. While N is below the number of columns, a vector that lies in the
row space is one of the inputs or a rare coincidence; at N equal to it every vector does
(Petrov et al. 2024, DAGER).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Singular values below this, relative to the largest, are float32's rounding of a gradient: seen at
# 5e-8 and less, the least true ones at 1e-6 and more.
ROUNDING = 3e-7
# A true input is outside by as much as rounding turns the directions of the smallest singular
# values: mostly 1e-6 of its length. Another word in its place is outside by a tenth and more.
TOLERANCES = (1e-3, 3e-2)


@dataclass(frozen=True)
class RowSpace:
    """outside (columns, columns - rank): orthonormal, the directions that no row has.

    tolerance: the share of a vector's length that may lie in them, because of rounding.
    """

    outside: np.ndarray
    rank: int
    tolerance: float

    @classmethod
    def of(cls, gradient: np.ndarray, error: float = 0.0) -> RowSpace:
        """Of a (rows, columns) gradient, or one times any factor; zero has rank 0.

        error: standard deviation of an entry's rounding beyond that of a gradient.
        """
        matrix = gradient.astype(np.float64)
        rows, columns = matrix.shape
        if not np.isfinite(matrix).all() or not matrix.any():
            return cls(np.eye(columns), 0, TOLERANCES[0])
        _, values, directions = np.linalg.svd(matrix, full_matrices=rows < columns)
        # The largest singular value of independent errors (Bai and Yin 1993).
        noise = max(ROUNDING * values[0], 1.1 * error * (rows**0.5 + columns**0.5))
        rank = int((values > noise).sum())
        turned = noise / values[rank - 1] if rank else 0.0
        return cls(directions[rank:].T.copy(), rank, float(np.clip(turned, *TOLERANCES)))

    @property
    def dimension(self) -> int:
        """Number of columns."""
        return len(self.outside)

    @property
    def full(self) -> bool:
        """Whether every vector lies in it, so that it tells nothing."""
        return self.rank >= self.dimension

    def holds(self, vectors: np.ndarray, strictness: float = 1.0) -> np.ndarray:
        """(n, columns) -> bool (n,): whether each lies in the row space, but for rounding."""
        v = vectors.astype(np.float64)
        return self.allows(np.square(v @ self.outside).sum(1), np.square(v).sum(1), strictness)

    def allows(self, outside: np.ndarray, whole: np.ndarray, strictness: float) -> np.ndarray:
        """Whether of vectors of squared length `whole` that much may be outside, squared too."""
        return outside <= (self.tolerance / strictness) ** 2 * whole


def rounding_of(start: np.ndarray) -> float:
    """Deviation of a float32 change's rounding, where it is the difference of two models."""
    return float(np.sqrt(np.mean(np.spacing(np.abs(start)).astype(np.float64) ** 2) / 12))
