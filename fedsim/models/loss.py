"""The training objective and the likelihoods of sentences."""

from __future__ import annotations

import torch
from torch import Tensor

from fedsim.models.base import LanguageModel
from fedsim.models.batch import PAD, Batch
from fedsim.models.kernels import fused_cross_entropy

# A sentence's loss is its nats over this constant, not over its own or its batch's length: a
# mean over the tokens of a batch would let one sentence change the gradient of the others, and
# the sensitivity that per-example privacy rests on would be gone.
NOMINAL_TOKENS = 10.0


def training_loss(model: LanguageModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """(loss, nats): mean over sequences of summed nats / NOMINAL_TOKENS; (N,) nats, detached.

    In training mode with dropout `model.dropout_generator` must be set.
    """
    if batch.n_sequences == 0:
        raise ValueError("the loss of an empty batch is not defined")
    hidden = model.hidden(batch)
    weights = hidden.new_full((len(batch),), 1.0 / (NOMINAL_TOKENS * batch.n_sequences))
    return fused_cross_entropy(
        hidden, model.output_weight, model.output_bias, batch.targets, weights
    )


def padded_sequence_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """(B, T, V) logits of `forward`, (B, T) targets with PAD at the end -> (B,) training losses.

    The same objective sequence by sequence for Opacus; its mean over B is `training_loss`.
    """
    nats = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="none"
    )
    return nats.view(targets.shape).sum(1) / NOMINAL_TOKENS


@torch.no_grad()
def sequence_nats(model: LanguageModel, batch: Batch) -> Tensor:
    """(n_sequences,) float64: -ln p(words, EOS | BOS) of each sequence, in eval mode."""
    was_training = model.training
    model.eval()
    try:
        hidden = model.hidden(batch)
    finally:
        model.train(was_training)
    weights = hidden.new_zeros(len(batch))
    _, nats = fused_cross_entropy(
        hidden, model.output_weight, model.output_bias, batch.targets, weights
    )
    total = nats.new_zeros(batch.n_sequences, dtype=torch.float64)
    return total.index_add_(0, batch.sequence, nats.double())
