"""Gaussian noise of DP-SGD's steps as a function of (key, step, index), in NumPy as in C.

The 64-bit words are NumPy's Philox4x64-10 with counter (0, 0, step, 0); each gives two normal
deviates by Box and Muller's transform, a block of words its cosines and then its sines. Philox is
quick and no cryptographic generator: it makes noise of simulations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_PAIRS = 512  # words in a block, as the native kernel has it


class PrivateStep(NamedTuple):
    """One step of DP-SGD: values -= lr (sum of clipped gradients + deviation x noise(key, step)).

    The gradient of each sequence's own loss is scaled down to an l2 norm of at most `clip_norm`,
    over all distinct parameters.
    """

    clip_norm: float
    lr: float
    deviation: float
    key: tuple[int, int]
    step: int


def normal_deviates(count: int, key: tuple[int, int], step: int) -> np.ndarray:
    """float32 (count,); `key` is two numbers below 2^64."""
    counter = np.array([0, 0, step, 0], np.uint64)
    bits = np.random.Philox(key=np.array(key, np.uint64), counter=counter)
    return normals_of(bits.random_raw(words_for(count)), count)


def words_for(count: int) -> int:
    """How many words `normals_of` takes for so many deviates."""
    return -(-count // (2 * _PAIRS)) * _PAIRS


def normals_of(words: np.ndarray, count: int) -> np.ndarray:
    """The normal deviates of 64-bit words, float32 (count,)."""
    words = words.reshape(-1, _PAIRS)
    low = (words & np.uint64(0xFFFFFFFF)).astype(np.float32)
    high = (words >> np.uint64(32)).astype(np.uint32).view(np.int32).astype(np.float32)
    uniform = low * np.float32(2.0**-32) + np.float32(2.0**-33)
    radius, angle = np.sqrt(-2.0 * np.log(uniform, dtype=np.float64)), high * (np.pi * 2.0**-31)
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return pairs.reshape(-1)[:count].astype(np.float32)
