"""The coordinate-wise median (Yin et al. 2018)."""

import numpy as np

from fedsim.updates import UserResult
from server.individual import blocks
from server.strategies.robust import Robust


class Median(Robust):
    """Of each coordinate the median over users, each with weight one; between two their mean."""

    def centre(self, rows: list[np.ndarray], results: list[UserResult]) -> np.ndarray:
        """See `Robust.centre`."""
        out = np.empty_like(rows[0])
        for part, values in blocks(rows):
            out[part] = np.median(values, axis=0)
        return out
