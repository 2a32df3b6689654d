"""Self-checks of what an update gives away: exact where theory says so, chance under noise."""

from __future__ import annotations

import math

import numpy as np
import torch

from fedsim.data.sequences import Sequences, offsets_of
from fedsim.leakage import update_attack, update_defences, update_words
from fedsim.leakage.selfcheck import CHECKS, Check
from fedsim.leakage.update_attack import Read, Sent
from fedsim.models import MODELS, build
from fedsim.models.base import LanguageModel
from fedsim.models.batch import N_SPECIALS, Batch
from fedsim.models.loss import training_loss
from fedsim.parameters import Layout, Parameters
from fedsim.seeding import stream, torch_stream

V = 300
SHAPES = {
    "lstm": {"hidden": 32, "embedding": 16},
    "cifg": {"hidden": 40, "embedding": 24},
    "transformer": {"embedding": 32, "layers": 2, "heads": 2, "feedforward": 64},
}
CLIP_NORM, NOISED_CLIENTS = 0.1, 20


def model_of(name: str) -> LanguageModel:
    """A small model as it is in round 1."""
    model = build(MODELS[name](**SHAPES[name]), V)
    model.initialise(torch_stream(0, "selfcheck updates model"))
    return model.eval()


def text_of(sentences: int, purpose: str, longest: int = 5) -> Sequences:
    """Random sentences of 1 to `longest` words."""
    rng = stream(0, f"selfcheck updates {purpose}")
    lengths = rng.integers(1, longest + 1, size=sentences)
    tokens = rng.integers(N_SPECIALS, V, size=int(lengths.sum()), dtype=np.int32)
    return Sequences(tokens, offsets_of(lengths))


def update_of(model: LanguageModel, text: Sequences) -> np.ndarray:
    """FedSGD's update: minus the mean gradient over the sentences, float32 (size,)."""
    loss, _ = training_loss(model, Batch.of(text.tokens, text.offsets))
    found = torch.autograd.grad(loss, list(model.parameters()))
    return -torch.cat([g.flatten() for g in found]).numpy()


def read(model: LanguageModel, text: Sequences, update: np.ndarray, noise: float = 0.0) -> Read:
    """All attacks on a gradient, with noise of that deviation."""
    size = len(update_attack.typed(text))
    sent = Sent(update, True, True, len(text), size, noise)
    return update_attack.read(model, sent, most_words=10)


@CHECKS.register("words of an update")
def words_of_an_update() -> list[Check]:
    """FedSGD shows all words and no others: by zero rows, by the largest, by the output bias."""
    checks = []
    for name in ("lstm", "cifg"):
        model = model_of(name)
        for sentences in (1, 8, 64):
            text = text_of(sentences, f"words {sentences}")
            update = Parameters(Layout.of(model), update_of(model, text))
            true = update_attack.typed(text)
            found = update_words.typed_words(model, update, len(true))
            _, _, f1 = update_attack.overlap(found, true)
            tied = "tied" if update_words.is_tied(model) else "untied"
            checks.append(Check(f"words, {tied}, {sentences} sentences: F1 1", f1, 1.0, 1.0))
            if model.output_bias is not None:
                targets = update_words.target_words(update)
                _, _, f1 = update_attack.overlap(targets, true)
                checks.append(Check(f"targets, {sentences} sentences: F1 1", f1, 1.0, 1.0))
                counts = update_words.counts(model, update, sentences, exact=True)
                right = update_attack.exact_counts(counts, text)
                checks.append(Check(f"counts, {sentences} sentences: exact", right, 1.0, 1.0))
    return checks


@CHECKS.register("sentences of an update")
def sentences_of_an_update() -> list[Check]:
    """Below full rank every sentence comes back in order and no other; at full rank none."""
    checks = []
    for name in SHAPES:
        model = model_of(name)
        text = text_of(6, f"sentences {name}")
        found = read(model, text, update_of(model, text)).sentences
        assert found is not None
        hits = update_attack.same(found.sentences, update_attack.sentences_of(text))
        false = len(found.sentences) - hits
        checks.append(Check(f"{name}: all 6 sentences, in order", hits, 6, 6))
        checks.append(Check(f"{name}: no false sentence", false, 0, 0))
        many = text_of(64, f"sentences {name}")
        none = read(model, many, update_of(model, many)).sentences
        assert none is not None
        checks.append(Check(f"{name}: none at full rank", len(none.sentences), 0, 0))
    return checks


@CHECKS.register("updates under noise")
def updates_under_noise() -> list[Check]:
    """At noise multiplier 1 the largest rows are random words, and no sentence comes back."""
    model = model_of("lstm")
    rng = stream(0, "selfcheck updates noise")
    hits, sentences, expected, variance = 0.0, 0, 0.0, 0.0
    for client in range(NOISED_CLIENTS):
        text = text_of(8, f"noise {client}")
        clipped = update_defences.clipped(update_of(model, text), CLIP_NORM)
        result = read(model, text, update_defences.noised(clipped, CLIP_NORM, rng), CLIP_NORM)
        true = update_attack.typed(text)
        hits += len(np.intersect1d(result.words, true))
        assert result.sentences is not None
        sentences += len(result.sentences.sentences)
        k, size = len(true), V - N_SPECIALS
        share = k / size  # of a hypergeometric draw of k among the words
        expected += k * share
        variance += k * share * (1 - share) * (size - k) / (size - 1)
    within = 3 * math.sqrt(variance)
    return [
        Check("words under noise: chance", hits, expected - within, expected + within),
        Check("sentences under noise: none", sentences, 0, 0),
    ]
