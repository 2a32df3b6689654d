"""Floating-point operations of training on a real token, from the sizes of a network.

Matrix products only, forward and backward, a multiplication and an addition each; no padding, no
product is done twice. Looking up an embedding is none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Forward, the gradient of the input and that of the weight, each 2 operations a weight and token.
PER_WEIGHT = 6


def flops_per_token(
    family: str, sizes: dict[str, Any], vocabulary: int, lengths: np.ndarray
) -> float:
    """Mean over the tokens of sentences of these lengths (predictions, the end included).

    Only attention depends on the lengths: it is counted as full squares, without the saving that
    a causal mask allows. The state before the first word counts as any other.
    """
    width = sizes["embedding"]
    weights = width * vocabulary
    attention = 0.0
    if family == "transformer":
        weights += sizes["layers"] * (4 * width**2 + 2 * width * sizes["feedforward"])
        # Scores and values: 2 n² E operations each, and twice that backward.
        squares = float((lengths.astype(np.float64) ** 2).sum() / lengths.sum())
        attention = sizes["layers"] * 12 * width * squares
    elif family == "lstm":
        hidden = sizes["hidden"]
        weights += 4 * hidden * (width + hidden) + hidden * width
    elif family == "cifg":
        weights += 3 * sizes["hidden"] * 2 * width + sizes["hidden"] * width
    else:
        raise ValueError(f"no formula for '{family}'")
    return PER_WEIGHT * weights + attention
