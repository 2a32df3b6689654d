"""Local training of a chunk of users: pure in (global parameters, users, options, streams)."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from fedsim.data.sequences import Sequences
from fedsim.federation import Federation
from fedsim.models.batch import Batch
from fedsim.models.flat import FlatModel
from fedsim.models.loss import sequence_nats
from fedsim.parameters import Parameters
from fedsim.sections import ClientOptions
from fedsim.seeding import stream, torch_stream
from fedsim.updates import NOT_FINITE, ChunkUpdate, Contribution, UserResult

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
    correction: torch.Tensor | None = None,
) -> tuple[torch.Tensor, float]:
    """FedAvg's ClientUpdate (McMahan et al. 2017, algorithm 1).

    Returns the change of the parameters, which lies in `flat.values`, and the nats over all epochs.
    With `proximal_mu` the objective gains mu/2 |w - w_t|^2 (FedProx, Li et al. 2020). A
    `correction` is added to every step's gradient after that has been clipped (SCAFFOLD,
    Karimireddy et al. 2020).
    """
    trained_nats = 0.0
    for _ in range(options.epochs):
        order = order_stream.permutation(len(sequences))
        for batch in batches(sequences, options.batch_size, flat.device, order):
            trained_nats += flat.sgd_step(
                batch, options.lr, options.max_grad_norm, options.proximal_mu, start
            )
            if correction is not None:
                flat.values.add_(correction, alpha=-options.lr)
    # In place: another buffer would be a model more of memory, and slower.
    return flat.values.sub_(start), trained_nats


def full_gradient(flat: FlatModel, sequences: Sequences) -> tuple[torch.Tensor, float]:
    """FedSGD's update: minus the exact gradient over all of the user's data, and its nats."""
    flat.gradients.zero_()
    nats = 0.0
    for batch in batches(sequences, GRADIENT_BATCH, flat.device, np.arange(len(sequences))):
        nats += flat.add_gradient(batch, batch.n_sequences / len(sequences))
    return flat.gradients.neg_(), nats


# From the global parameters and one user's text to (update, nats, tokens); the model's values are
# the global parameters when it is called. The update may lie in the model's own memory.
Training = Callable[[FlatModel, torch.Tensor, Sequences, int], tuple[torch.Tensor, float, int]]


def averaging(
    options: ClientOptions, seed: int, round: int, correction: torch.Tensor | None = None
) -> Training:
    """FedAvg's local epochs."""

    def train(
        flat: FlatModel, start: torch.Tensor, sequences: Sequences, user: int
    ) -> tuple[torch.Tensor, float, int]:
        order = stream(seed, "batches", round, user)
        delta, nats = local_sgd(flat, start, sequences, options, order, correction)
        return delta, nats, options.epochs * targets(sequences)

    return train


def exact_gradient(
    flat: FlatModel, start: torch.Tensor, sequences: Sequences, user: int
) -> tuple[torch.Tensor, float, int]:
    """FedSGD's gradient: that of the model itself, so without dropout."""
    flat.model.train(False)
    return *full_gradient(flat, sequences), targets(sequences)


def score(flat: FlatModel, sequences: Sequences) -> float:
    """The nats of the user's text under the model as it is, without dropout."""
    order = np.arange(len(sequences))
    parts = batches(sequences, GRADIENT_BATCH, flat.device, order)
    return sum(float(sequence_nats(flat.model, batch).sum()) for batch in parts)


def targets(sequences: Sequences) -> int:
    """Tokens that are predicted: each sequence's own and its end."""
    return len(sequences.tokens) + len(sequences)


def train_chunk(
    flat: FlatModel,
    parameters: Parameters,
    users: Sequence[int],
    federation: Federation,
    training: Training,
    contribution: Contribution,
    seed: int,
    round: int,
    total: np.ndarray | None = None,
    score_first: bool = False,
) -> ChunkUpdate:
    """Train every user of the chunk from the same parameters; sum what they contribute exactly.

    A user whose training raises becomes a failure with its traceback. So does a user whose update
    must never be averaged, see `Contribution.add`. The sum is made in `total`, zeros (size,)
    int64, where they are given. `score_first`: the parameters are scored on each user's text.
    """
    start = torch.from_numpy(parameters.flat).to(flat.device)
    zeros = torch.from_numpy(np.zeros(len(start), np.int64) if total is None else total)
    sums = zeros.to(flat.device)  # the same memory on the CPU
    results: list[UserResult] = []
    failures: dict[int, str] = {}
    flat.model.train()
    for user in users:
        try:
            sequences = federation.sequences(user)
            flat.values.copy_(start)
            nats_before = score(flat, sequences) if score_first else 0.0
            flat.model.dropout_generator = torch_stream(seed, "dropout", round, user, flat.device)
            delta, nats, tokens = training(flat, start, sequences, user)
            norm = flat.norm(delta)
            if not math.isfinite(nats_before):
                failures[user] = NOT_FINITE
                continue
            if not contribution.add(flat, sums, delta, norm, len(sequences), user):
                failures[user] = NOT_FINITE
                continue
        except Exception:
            failures[user] = traceback.format_exc()
            continue
        norm = norm if math.isfinite(norm) else math.inf
        result = UserResult(user, len(sequences), tokens, nats, norm, nats_before)
        results.append(result)
    return ChunkUpdate(zeros.copy_(sums).numpy(), results, failures)
