"""The memory that a reply's sum is made in: the engine's, where it offers some, so that a worker
has no copy of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_offered: np.ndarray | None = None  # of this process: a worker answers one message at a time


@contextmanager
def made_in(memory: np.ndarray | None) -> Iterator[None]:
    """Offer `memory` (uint8) to the message that is answered inside."""
    global _offered
    _offered = memory
    try:
        yield
    finally:
        _offered = None


def room(size: int) -> np.ndarray | None:
    """The first `size` bytes of what is offered; None where that is nothing, or less."""
    return _offered[:size] if _offered is not None and len(_offered) >= size else None
