"""Training on a server: the same network on text that lies in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from fedsim.config import Config, EvaluationOptions
from fedsim.data.sequences import Sequences
from fedsim.device import resolve_device, threads
from fedsim.federation import Federation
from fedsim.models import build
from fedsim.models.base import LanguageModel
from fedsim.models.batch import Batch
from fedsim.models.flat import flat_model, resolve_kernel
from fedsim.seeding import stream, torch_stream

# A constant, not the machine's cores: the last bits of a sum depend on the number of threads, and
# a baseline should not change with the machine it is looked up on.
THREADS = 2
WARMUP_STEPS = 100
GRADIENT_NORM = 1.0


def pooled(federation: Federation) -> Sequences:
    """All sentences that real users train on: without canary users, and those set apart."""
    corpus, apart = federation.corpus, set(federation.set_apart.tolist())
    users = [user for user in corpus.split("train") if user not in apart]
    return Sequences.concatenate([corpus.sequences(user) for user in users])


@dataclass(frozen=True)
class Plan:
    """How long and how fast: epochs over all sentences, the highest rate, sentences a step."""

    epochs: int
    lr: float
    batch_size: int

    @classmethod
    def of(cls, options: EvaluationOptions) -> Plan:
        """That of the baseline."""
        return cls(options.central_epochs, options.central_lr, options.central_batch_size)


def train_centrally(
    config: Config,
    text: Sequences,
    vocabulary_size: int,
    plan: Plan,
    purpose: str,
    on_epoch: Callable[[int, float], None],
) -> LanguageModel:
    """AdamW with warm-up and cosine decay over shuffled sentences, as a server would train.

    It begins with the model that the federated run would begin with; `purpose` names the streams
    of the order and of dropout. `on_epoch(epoch, nats_per_token)` is called after each epoch.
    """
    device = resolve_device(config.engine.device)
    model = build(config.model.options, vocabulary_size, device)
    kernel, _ = resolve_kernel(config.engine.kernel, config.model.options, device)
    flat = flat_model(model, device, kernel)
    model.initialise(torch_stream(config.seed, "init", device=device))
    model.dropout_generator = torch_stream(config.seed, f"{purpose}-dropout", device=device)
    steps_per_epoch = -(-len(text) // plan.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.lr, weight_decay=0.01)
    total = plan.epochs * steps_per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, total))
    model.train()
    with threads(THREADS):
        for epoch in range(plan.epochs):
            order = stream(config.seed, f"{purpose}-order", epoch).permutation(len(text))
            nats_sum, tokens = 0.0, 0
            for start in range(0, len(order), plan.batch_size):
                chosen = order[start : start + plan.batch_size]
                batch = Batch.of(text.tokens, text.offsets, chosen, device)
                flat.gradients.zero_()
                nats_sum += flat.add_gradient(batch)
                torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
                optimizer.step()
                schedule.step()
                tokens += len(batch)
            on_epoch(epoch + 1, nats_sum / tokens)
    return model.eval()


def _rate(step: int, total: int) -> float:
    return min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + np.cos(np.pi * step / total))
