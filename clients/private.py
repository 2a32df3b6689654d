"""Example-level DP-SGD on one client: Poisson batches, clipped sequences, noise.

What a client sends is then differentially private for each single sequence of its own (zero out
one; the numbers of sequences are public, since noise is scaled by them), against whoever sees every
update; it is no guarantee for the user as a whole.
"""

from __future__ import annotations

import hashlib
import hmac
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
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
from fedsim.noise import PrivateStep, normal_deviates, normals_of, words_for
from fedsim.privacy.key_stream import KeyStream
from fedsim.seeding import generator


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
    noise: Noise,
) -> tuple[Tensor, float, int]:
    """The change of the parameters, the nats and the tokens trained on.

    Every step is made, so that every step can be accounted, whatever its batch; the sum is divided
    by the expected number of sequences, never by the one drawn. A user without sequences has
    nothing to protect: no step is made.
    """
    left_out: dict[int, list[int]] = {}
    while True:
        made = _steps(model, sequences, options, deepcopy(batch_stream), noise, left_out)
        if made is not None:
            return torch.sub(model.values, start, out=model.gradients), *made
        model.values.copy_(start)


def _steps(
    model: PrivateModel,
    sequences: Sequences,
    options: PrivateOptions,
    batch_stream: np.random.Generator,
    noise: Noise,
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
        how = noise.step(options.clip_norm, options.lr / expected, deviation, step)
        trained, norms = model.private_step(batch, how)
        noise.add(model.values, options.lr / expected * deviation, step)
        bad = chosen[~np.isfinite(norms.cpu().numpy())]
        if len(bad):
            left_out[step] = [*left_out.get(step, []), *bad.tolist()]
            return None
        nats, tokens = nats + trained, tokens + len(batch)
    return nats, tokens


class Noise:
    """The noise of one user's steps in one round, from a key that is the user's own.

    Seeded noise is made by the kernel, from a generator that is quick and no secret. Fresh noise
    comes from a cryptographic stream and is added after the kernel's step.
    """

    def __init__(self, key: bytes, text: str, round: int, user: int, fresh: bool) -> None:
        """`text` is a digest of what is trained on: other text, other noise."""
        own = hmac.new(key, text.encode(), hashlib.sha256).digest()
        self._stream = partial(KeyStream, own, round=round, user=user)
        self._fresh = fresh
        low, high = (int(word) for word in self._stream("kernel").words(2))
        self._kernel = low, high

    def batches(self) -> np.random.Generator:
        """Which sequences each step trains on: as secret as the noise."""
        return generator(self._stream("batches").bits(128))

    def step(self, clip_norm: float, lr: float, deviation: float, step: int) -> PrivateStep:
        """What the kernel is to do."""
        return PrivateStep(clip_norm, lr, 0.0 if self._fresh else deviation, self._kernel, step)

    def add(self, values: Tensor, deviation: float, step: int) -> None:
        """Add what the kernel did not."""
        if self._fresh and deviation:
            words = self._stream(f"step {step}").words(words_for(len(values)))
            values.add_(torch.from_numpy(normals_of(words, len(values))).to(values.device),
                        alpha=-deviation)  # fmt: skip


def private_training(
    options: PrivateOptions, key: bytes, round: int, fresh: bool = False
) -> Training:
    """`private_sgd` with the batches and the noise of a user and round, which follow from `key`."""

    def train(
        flat: FlatModel, start: Tensor, sequences: Sequences, user: int
    ) -> tuple[Tensor, float, int]:
        text = hashlib.sha256(sequences.tokens.tobytes() + sequences.offsets.tobytes())
        noise = Noise(key, text.hexdigest(), round, user, fresh)
        return private_sgd(flat, start, sequences, options, noise.batches(), noise)  # type: ignore[arg-type]

    return train


def private_model(model: LanguageModel, device: torch.device, kernel: str) -> FlatModel:
    """A flat model that makes private steps."""
    return NativeModel(model) if kernel == "native" else OpacusModel(model, device)
