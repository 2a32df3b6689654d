"""What may be done to an update before a server sees it: bounds, noise, compression, sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedsim.parameters import Layout, Parameters

LEVELS = 127  # of an int8, on each side of zero


def clipped(update: np.ndarray, clip_norm: float) -> np.ndarray:
    """Scaled down to an l2 norm of at most `clip_norm`, over all parameters."""
    norm = float(np.linalg.norm(update.astype(np.float64)))
    return update if norm <= clip_norm else (update * (clip_norm / norm)).astype(np.float32)


def noised(update: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """With independent Gaussian noise of that deviation in every coordinate."""
    noise = rng.standard_normal(len(update), dtype=np.float32)
    return update + np.float32(deviation) * noise


def sparsified(update: np.ndarray, share: float) -> np.ndarray:
    """Only the `share` of the coordinates that are largest; the others are zero."""
    kept = max(1, round(share * len(update)))
    size = np.abs(update)
    threshold = np.partition(size, len(size) - kept)[len(size) - kept]
    return np.where(size >= threshold, update, np.float32(0.0))


def quantised(update: np.ndarray, layout: Layout) -> np.ndarray:
    """Each tensor rounded to int8, in steps of its largest value's 127th part, and back."""
    out = update.copy()
    for _, tensor in Parameters(layout, out).items():
        step = np.abs(tensor).max() / LEVELS
        if step > 0:
            tensor[...] = np.round(tensor / step) * step
    return out


def summed(updates: Sequence[np.ndarray]) -> np.ndarray:
    """What secure aggregation shows of a cohort: the sum alone, float32."""
    total = np.zeros(len(updates[0]))
    for update in updates:
        total += update
    return total.astype(np.float32)
