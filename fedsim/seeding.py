"""Named random streams: every draw is a function of (seed, purpose, round, user).

No generator lives across rounds, so checkpoints hold no random state, a resumed run draws what
the unbroken one would have drawn, and the number of workers cannot matter.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def _key(seed: int, purpose: str, round: int, user: int) -> int:
    text = f"{seed}/{purpose}/{round}/{user}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:16], "little")


def stream(seed: int, purpose: str, round: int = 0, user: int = 0) -> np.random.Generator:
    """A fresh NumPy generator for one purpose, round and user."""
    return np.random.Generator(np.random.PCG64(_key(seed, purpose, round, user)))


def generator(bits: int) -> np.random.Generator:
    """A generator whose whole state is `bits`, 128 of them: where a key is secret."""
    return np.random.Generator(np.random.PCG64(bits))


def torch_stream(
    seed: int, purpose: str, round: int = 0, user: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A fresh torch generator on `device` for one purpose, round and user."""
    import torch

    generator = torch.Generator(device=device)
    generator.manual_seed(_key(seed, purpose, round, user) & (2**63 - 1))
    return generator
