"""Dropout whose masks come from an explicit generator, never from torch's global one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zero each element with probability `p` and divide the rest by 1 - p; nothing in eval mode.

    `generator` lives on the device of the input and is set by whoever trains (see
    `LanguageModel.dropout_generator`), so that a mask is a function of (seed, round, user).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`."""
        if not self.training or self.p == 0.0:
            return x
        if self.generator is None:
            raise RuntimeError("dropout needs model.dropout_generator to be set before training")
        keep = torch.empty_like(x).bernoulli_(1.0 - self.p, generator=self.generator)
        return x * keep.div_(1.0 - self.p)

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"p={self.p}"
