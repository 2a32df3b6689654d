"""Reference models: what text is likely to somebody who never saw members or non-members."""

from __future__ import annotations

from fedsim.data.sequences import Sequences
from fedsim.federation import Federation
from fedsim.leakage.base import Subject
from fedsim.models import KneserNey
from fedsim.models.base import LanguageModel, build, initialise
from fedsim.models.flat import flat_model, resolve_kernel
from fedsim.models.pooled import Plan, train
from fedsim.seeding import stream, torch_stream

PLAN = Plan(epochs=3, lr=0.003, batch_size=64, warmup=50)


def reference_text(federation: Federation) -> Sequences:
    """All sentences of validation and test users, who are neither members nor non-members.

    Donors are left out: the text of canary users is made of their word pairs.
    """
    corpus = federation.corpus
    return Sequences.concatenate(
        [corpus.split_sequences(split) for split in ("validation", "test")]
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
    initialise(model, config.model.options, torch_stream(seed, "reference model"))
    model.dropout_generator = torch_stream(seed, "reference dropout", device=device)
    text = reference_text(subject.federation)
    train(flat, text, PLAN, lambda epoch: stream(seed, "reference order", epoch))
    return model
