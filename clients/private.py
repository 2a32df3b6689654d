"""Example-level DP-SGD on one client: Poisson batches, clipped sequences, noise.

What a client sends is then differentially private for each single sequence of its own (add or
remove one), against whoever sees every update; it is no guarantee for the user as a whole.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor

from clients.training import Training
from fedsim.data.sequences import Sequences
from fedsim.models.base import LanguageModel
from fedsim.models.batch import Batch
from fedsim.models.flat import FlatModel, NativeModel
from fedsim.models.loss import NOMINAL_TOKENS, padded_sequence_losses
from fedsim.noise import PrivateStep, normal_deviates
from fedsim.seeding import noise_key, stream


@dataclass(frozen=True)
class PrivateOptions:
    """DP-SGD (Abadi et al. 2016): the noise's deviation is `noise_multiplier` x `clip_norm`."""

    lr: float
    clip_norm: float
    noise_multiplier: float
    sample_rate: float  # of each sequence in each step
    steps: int


class PrivateModel(Protocol):
    """A flat model that makes private steps: `NativeModel` or `OpacusModel`."""

    values: Tensor
    gradients: Tensor
    device: torch.device

    def private_step(self, batch: Batch, how: PrivateStep) -> tuple[float, Tensor]:
        """The step; an empty batch makes one of noise alone.

        Returns the batch's summed nats and the norms before clipping, (sequences,). With dropout
        the two ways draw other masks, since Opacus needs padded rows.
        """


class OpacusModel(FlatModel):
    """Private steps from Opacus' per-sample gradients: the reference, and for any model."""

    def __init__(self, model: LanguageModel, device: torch.device) -> None:
        super().__init__(model, device)
        self._sampled = GradSampleModule(self.model, batch_first=True, loss_reduction="sum")

    def private_step(self, batch: Batch, how: PrivateStep) -> tuple[float, Tensor]:
        """See `PrivateModel.private_step`."""
        losses = norms = torch.zeros(0, device=self.device)
        total = torch.zeros_like(self.values)
        if batch.n_sequences:
            logits = self._sampled(batch.pad(batch.inputs))
            losses = padded_sequence_losses(logits, batch.pad(batch.targets))
            losses.sum().backward()
            samples = [p.grad_sample.flatten(1) for p in self.model.parameters()]  # type: ignore[attr-defined]
            squares = torch.stack([s.square().sum(1, dtype=torch.float64) for s in samples])
            norms = squares.sum(0).sqrt().float()
            factors = (how.clip_norm / norms).clamp(max=1.0)
            total = torch.cat([factors @ s for s in samples])
            self._sampled.zero_grad(set_to_none=False)  # the buffer's views must stay
        if how.deviation:
            noise = torch.from_numpy(normal_deviates(len(total), how.key, how.step))
            total.add_(noise.to(self.device), alpha=how.deviation)
        self.values.add_(total, alpha=-how.lr)
        return NOMINAL_TOKENS * float(losses.detach().double().sum()), norms


def private_sgd(
    model: PrivateModel,
    start: Tensor,
    sequences: Sequences,
    options: PrivateOptions,
    batch_stream: np.random.Generator,
    key: tuple[int, int],
) -> tuple[Tensor, float, int]:
    """The change of the parameters, the nats and the tokens trained on.

    Every step is made, so that every step can be accounted, whatever its batch; the sum is divided
    by the expected number of sequences, never by the one drawn. `key` is used for nothing else. A
    user without sequences has nothing to protect: no step is made.
    """
    left_out: dict[int, list[int]] = {}
    while True:
        made = _steps(model, sequences, options, deepcopy(batch_stream), key, left_out)
        if made is not None:
            return torch.sub(model.values, start, out=model.gradients), *made
        model.values.copy_(start)


def _steps(
    model: PrivateModel,
    sequences: Sequences,
    options: PrivateOptions,
    batch_stream: np.random.Generator,
    key: tuple[int, int],
    left_out: dict[int, list[int]],
) -> tuple[float, int] | None:
    """Nats and tokens of all steps. None where a sequence's gradient is not finite: it is then in
    `left_out` by step, for it must contribute nothing, and all has to be done again without it."""
    expected, nats, tokens = options.sample_rate * len(sequences), 0.0, 0
    deviation = options.noise_multiplier * options.clip_norm
    for step in range(options.steps if len(sequences) else 0):
        chosen = np.flatnonzero(batch_stream.random(len(sequences)) < options.sample_rate)
        chosen = np.setdiff1d(chosen, left_out.get(step, []))
        batch = Batch.of(sequences.tokens, sequences.offsets, chosen, model.device)
        how = PrivateStep(options.clip_norm, options.lr / expected, deviation, key, step)
        trained, norms = model.private_step(batch, how)
        bad = chosen[~np.isfinite(norms.cpu().numpy())]
        if len(bad):
            left_out[step] = [*left_out.get(step, []), *bad.tolist()]
            return None
        nats, tokens = nats + trained, tokens + len(batch)
    return nats, tokens


def private_training(options: PrivateOptions, seed: int, round: int) -> Training:
    """`private_sgd` with the batches and the noise of a user and round."""

    def train(
        flat: FlatModel, start: Tensor, sequences: Sequences, user: int
    ) -> tuple[Tensor, float, int]:
        draw = stream(seed, "private batches", round, user)
        key = noise_key(seed, "private steps", round, user)
        return private_sgd(flat, start, sequences, options, draw, key)  # type: ignore[arg-type]

    return train


def private_model(model: LanguageModel, device: torch.device, kernel: str) -> FlatModel:
    """A flat model that makes private steps."""
    return NativeModel(model) if kernel == "native" else OpacusModel(model, device)
