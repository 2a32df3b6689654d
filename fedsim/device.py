"""Where tensors live and how many threads compute: settings that a run records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fedsim.errors import FedsimError


def resolve_device(name: str) -> torch.device:
    """'auto' means CUDA where there is one, else the CPU; other names are torch's own."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise FedsimError(
            f"engine.device = '{name}' cannot be used here ({reason}); try 'auto' or 'cpu'."
        ) from None
    return device


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute on `count` torch threads inside the block: sums depend on it in the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
