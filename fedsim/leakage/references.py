"""Reference models: what text is likely to somebody who never saw members or non-members."""

from __future__ import annotations

import numpy as np
import torch

from fedsim.data.sequences import Sequences
from fedsim.federation import Federation
from fedsim.leakage.base import Subject
from fedsim.models import KneserNey
from fedsim.models.base import LanguageModel, build
from fedsim.models.batch import Batch
from fedsim.models.flat import flat_model, resolve_kernel
from fedsim.seeding import stream, torch_stream

EPOCHS, BATCH, RATE, WARMUP, GRADIENT_NORM = 3, 64, 0.003, 50, 1.0


def reference_text(federation: Federation) -> Sequences:
    """All sentences of validation, donors and test, who are neither members nor non-members.

    Canary users fill up their text with donors' sentences.
    """
    corpus = federation.corpus
    return Sequences.concatenate(
        [corpus.split_sequences(split) for split in ("validation", "donors", "test")]
    )


def trigram(federation: Federation) -> KneserNey:
    """A Kneser-Ney trigram of the reference text."""
    return KneserNey.fit([reference_text(federation)], len(federation.corpus.vocabulary))


def same_architecture(subject: Subject) -> LanguageModel:
    """The subject's architecture trained centrally on the reference text: AdamW, some epochs."""
    device = subject.model.device
    config, seed = subject.config, subject.seed
    model = build(config.model.options, subject.model.vocabulary_size, device)
    flat = flat_model(model, device, resolve_kernel("auto", config.model.options, device)[0])
    model.initialise(torch_stream(seed, "reference model", device=device))
    model.dropout_generator = torch_stream(seed, "reference dropout", device=device)
    text = reference_text(subject.federation)
    steps = -(-len(text) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    model.train()
    for epoch in range(EPOCHS):
        order = stream(seed, "reference order", epoch).permutation(len(text))
        for step, start in enumerate(range(0, len(order), BATCH), epoch * steps):
            warm, done = min(1.0, (step + 1) / WARMUP), step / (EPOCHS * steps)
            optimizer.param_groups[0]["lr"] = RATE * warm * 0.5 * (1 + np.cos(np.pi * done))
            chosen = order[start : start + BATCH]
            flat.gradients.zero_()
            flat.add_gradient(Batch.of(text.tokens, text.offsets, chosen, device))
            torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
            optimizer.step()
    return model.eval()
