"""Local training of a chunk of users: pure in (global parameters, users, options, streams)."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from fedsim.config import ClientOptions
from fedsim.data.sequences import Sequences
from fedsim.federation import Federation
from fedsim.models.batch import Batch
from fedsim.models.flat import FlatModel
from fedsim.parameters import Parameters
from fedsim.seeding import stream, torch_stream
from fedsim.updates import LARGEST, NOT_FINITE, ChunkUpdate, UserResult

GRADIENT_BATCH = 64  # sequences at once for an exact gradient: memory, not mathematics


def batches(
    sequences: Sequences, size: int, device: torch.device, order: np.ndarray
) -> Iterator[Batch]:
    """Batches of `size` sequences in the given order; the last may be smaller."""
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield Batch.of(sequences.tokens, sequences.offsets, chosen, device)


def local_sgd(
    flat: FlatModel,
    start: torch.Tensor,
    sequences: Sequences,
    options: ClientOptions,
    order_stream: np.random.Generator,
) -> tuple[torch.Tensor, float]:
    """FedAvg's ClientUpdate (McMahan et al. 2017, algorithm 1).

    Returns the change of the parameters, which lies in `flat.gradients`, and the nats over all
    epochs. With `proximal_mu` the objective gains mu/2 |w - w_t|^2 (FedProx, Li et al. 2020).
    """
    trained_nats = 0.0
    for _ in range(options.epochs):
        order = order_stream.permutation(len(sequences))
        for batch in batches(sequences, options.batch_size, flat.device, order):
            trained_nats += flat.sgd_step(
                batch, options.lr, options.max_grad_norm, options.proximal_mu, start
            )
    return torch.sub(flat.values, start, out=flat.gradients), trained_nats


def full_gradient(flat: FlatModel, sequences: Sequences) -> tuple[torch.Tensor, float]:
    """FedSGD's update: minus the exact gradient over all of the user's data, and its nats."""
    flat.gradients.zero_()
    nats = 0.0
    for batch in batches(sequences, GRADIENT_BATCH, flat.device, np.arange(len(sequences))):
        nats += flat.add_gradient(batch, batch.n_sequences / len(sequences))
    return flat.gradients.neg_(), nats


def train_chunk(
    flat: FlatModel,
    parameters: Parameters,
    users: Sequence[int],
    federation: Federation,
    options: ClientOptions,
    seed: int,
    round: int,
    exact_gradient: bool,
    total: np.ndarray | None = None,
) -> ChunkUpdate:
    """Train every user of the chunk from the same parameters; sum the weighted updates exactly.

    A user whose training raises becomes a failure with its traceback. So does a user whose update
    is not finite, or too large for an exact sum: it must never be averaged. The sum is made in
    `total`, zeros (size,) int64, where they are given.
    """
    start = torch.from_numpy(parameters.flat).to(flat.device)
    zeros = torch.from_numpy(np.zeros(len(start), np.int64) if total is None else total)
    sums = zeros.to(flat.device)  # the same memory on the CPU
    results: list[UserResult] = []
    failures: dict[int, str] = {}
    # An exact gradient is that of the model itself, so without dropout.
    flat.model.train(not exact_gradient)
    for user in users:
        try:
            sequences = federation.sequences(user)
            flat.values.copy_(start)
            flat.model.dropout_generator = torch_stream(seed, "dropout", round, user, flat.device)
            if exact_gradient:
                delta, nats = full_gradient(flat, sequences)
            else:
                order = stream(seed, "batches", round, user)
                delta, nats = local_sgd(flat, start, sequences, options, order)
            norm = flat.norm(delta)
            if not norm * len(sequences) < LARGEST:  # so that NaN is caught too
                failures[user] = NOT_FINITE
                continue
        except Exception:
            failures[user] = traceback.format_exc()
            continue
        flat.add_weighted(sums, delta, len(sequences))
        passes = 1 if exact_gradient else options.epochs
        tokens = passes * (len(sequences.tokens) + len(sequences))  # each also predicts its end
        results.append(UserResult(user, len(sequences), tokens, nats, norm))
    return ChunkUpdate(zeros.copy_(sums).numpy(), results, failures)
