"""What an audit user sends instead of what training makes: its canary, far too large."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from clients.training import Training
from fedsim.data.sequences import Sequences
from fedsim.federation import Federation
from fedsim.leakage.update_canaries import TIMES_CLIP_NORM, WITHOUT_CLIPPING
from fedsim.models.flat import FlatModel


def planting(training: Training, federation: Federation, work: Mapping[str, Any]) -> Training:
    """`training`, but for the users of an audit. `work` is what clients are told of the round."""
    clip_norm = work.get("clip_norm")
    norm = TIMES_CLIP_NORM * float(clip_norm) if clip_norm else WITHOUT_CLIPPING

    def train(
        flat: FlatModel, start: torch.Tensor, sequences: Sequences, user: int
    ) -> tuple[torch.Tensor, float, int]:
        canary = federation.audited(user)
        if canary is None:
            return training(flat, start, sequences, user)
        direction = federation.audit.direction(canary, len(start)) * np.float32(norm)
        return flat.gradients.copy_(torch.from_numpy(direction)), 0.0, 0

    return train
