"""Global magnitude pruning (Han et al. 2015, arXiv:1506.02626), without training afterwards."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from fedsim.compression.base import COPIES, Compressed, Copy, Original, matrices


@COPIES.register("pruned")
class Pruned(Copy):
    """The smallest weights of all matrices together become zero."""

    sparsity: float = Field(0.5, ge=0, le=1, description="share of the weights that become zero")

    def make(self, original: Original) -> Compressed:
        """See `Copy.make`; of equal weights the first go."""
        values = original.parameters()
        places = np.flatnonzero(matrices(values.layout))
        removed = round(self.sparsity * len(places))
        order = np.argsort(np.abs(values.flat[places]), kind="stable")
        values.flat[places[order[:removed]]] = 0.0
        size = stored_bytes(len(places), removed, values.layout.size - len(places))
        return Compressed(original.with_parameters(values), size)


def stored_bytes(weights: int, removed: int, others: int) -> int:
    """Float32 for what is kept and a bit for each weight that says whether it is; or plain
    float32, where that is smaller."""
    sparse = 4 * (weights - removed) + -(-weights // 8)
    return 4 * others + min(sparse, 4 * weights)
