"""Training on pooled text: AdamW with warm-up and cosine decay over shuffled sentences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from fedsim.data.sequences import Sequences
from fedsim.models.batch import Batch
from fedsim.models.flat import FlatModel
from fedsim.parameters import share_kept

GRADIENT_NORM = 1.0
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Plan:
    """How long and how fast: epochs over all sentences, the highest rate, sentences a step, the
    decay of the running average over steps that becomes the model (0: none, the last step is it),
    and the steps until that rate is reached."""

    epochs: int
    lr: float
    batch_size: int
    average: float = 0.0
    warmup: int = 100


def train(
    flat: FlatModel,
    text: Sequences,
    plan: Plan,
    order_of: Callable[[int], np.random.Generator],
    on_epoch: Callable[[int, float], None] = lambda epoch, nats: None,
) -> None:
    """Train the model in place and leave it in eval mode.

    order_of: the stream of an epoch's order, epochs from 0. `on_epoch(epoch, nats_per_token)` is
    called after each, epochs from 1.
    """
    model = flat.model
    total = plan.epochs * -(-len(text) // plan.batch_size)
    # All parameters as one: a step is then a single pass over contiguous memory.
    values = torch.nn.Parameter(flat.values)
    values.grad = flat.gradients
    optimizer = torch.optim.AdamW([values], lr=plan.lr, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: share_of_rate(step, total, plan.warmup)
    )
    average = flat.values.clone() if plan.average else None
    steps = 0
    model.train()
    for epoch in range(plan.epochs):
        order = order_of(epoch).permutation(len(text))
        nats_sum, tokens = 0.0, 0
        for start in range(0, len(order), plan.batch_size):
            chosen = order[start : start + plan.batch_size]
            cut = [part for part in np.array_split(chosen, flat.parts) if len(part)]
            parts = [Batch.of(text.tokens, text.offsets, part, flat.device) for part in cut]
            flat.gradients.zero_()
            nats_sum += flat.add_gradients(parts)
            torch.nn.utils.clip_grad_norm_([values], GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            tokens += sum(map(len, parts))
            if average is not None:
                average.lerp_(flat.values, 1 - share_kept(plan.average, steps))
            steps += 1
        on_epoch(epoch + 1, nats_sum / tokens)
    if average is not None:
        flat.values.copy_(average)
    model.eval()


def share_of_rate(step: int, total: int, warmup: int) -> float:
    """Of the highest learning rate, at a step counted from 0."""
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + np.cos(np.pi * step / total))
