"""Compressed copies where theory says what they must be, and what they must give away."""

from __future__ import annotations

import numpy as np
import torch

from fedsim.compression import Compressed, Original, distilled, int8, pruned
from fedsim.data.sequences import Sequences
from fedsim.leakage import exposure, ranks
from fedsim.leakage.canaries import random_sentences
from fedsim.leakage.scoring import rows_of
from fedsim.leakage.selfcheck import CHECKS, Check
from fedsim.models.base import LanguageModel, build
from fedsim.models.batch import Batch
from fedsim.models.cifg import CifgSmallOptions
from fedsim.models.flat import FlatModel
from fedsim.parameters import Parameters
from fedsim.seeding import stream, torch_stream

WORDS, STEPS, REFERENCES = 40, 60, 1000
OPTIONS = CifgSmallOptions(hidden=12, embedding=8)
NOBODY = Sequences(np.empty(0, np.int32), np.zeros(1, np.int64))


@CHECKS.register("compression")
def compression() -> list[Check]:
    """A tiny model that was made to know one sentence by heart, and copies of it."""
    secret = random_sentences(1, WORDS, stream(0, "selfcheck compression secret"))
    original = Original(_memoriser(secret), OPTIONS, NOBODY, 0)
    values = original.parameters()
    in_8_bits = int8.Int8().make(original)
    again = int8.Int8().make(Original(in_8_bits.model, OPTIONS, NOBODY, 0))
    untouched = pruned.Pruned(sparsity=0.0).make(original)
    empty = pruned.Pruned(sparsity=1.0).make(original)
    cap = float(np.log2(REFERENCES + 1))
    formula = sum(
        int(np.prod(s)) + 4 * s[0] if len(s) == 2 else 4 * s[0] for s in values.layout.shapes
    )
    return [
        Check("pruned of nothing is the model, scalar by scalar", _change(untouched, values), 0, 0),
        Check("and takes its bytes", untouched.nbytes - values.nbytes, 0, 0),
        Check("8 bits of 8 bits change nothing", _change(again, _values(in_8_bits)), 0, 0),
        Check("8 bits move a weight by half a step at most", _steps(values, in_8_bits), 0, 0.501),
        Check("one byte a weight, 4 a row and 4 a bias", in_8_bits.nbytes - formula, 0, 0),
        Check("pruned of everything has no weight left", _left(empty), 0, 0),
        Check("a sentence known by heart is at the ceiling", _bits(original.model, secret),
              cap, cap),
        Check("and still is in 8 bits", _bits(in_8_bits.model, secret), cap, cap),
        Check("where all are equally likely, ties count against the attacker: 0 bits",
              _bits(empty.model, secret), 0, 0),
        Check("a student equal to its teacher is at the teacher's entropy, nats",
              _above_entropy(original.model, secret), -1e-5, 1e-5),
    ]  # fmt: skip


def _memoriser(secret: np.ndarray) -> LanguageModel:
    model = build(OPTIONS, WORDS)
    flat, text = FlatModel(model, torch.device("cpu")), rows_of(secret)
    model.initialise(torch_stream(0, "selfcheck compression init"))  # its values are flat's now
    start = flat.values.clone()
    for _ in range(STEPS):
        flat.sgd_step(Batch.of(text.tokens, text.offsets), 1.0, 1.0, 0.0, start)
    return model.eval()


def _values(copy: Compressed) -> Parameters:
    return Parameters.from_model(copy.model)


def _change(copy: Compressed, values: Parameters) -> float:
    return float(np.abs(_values(copy).flat - values.flat).max())


def _steps(values: Parameters, copy: Compressed) -> float:
    """The largest change of a weight, in 127ths of the largest of its row."""
    most = 0.0
    for (_, before), (_, after) in zip(values.items(), _values(copy).items(), strict=True):
        if before.ndim == 2:
            step = np.abs(before).max(axis=1, keepdims=True) / int8.LEVELS
            most = max(most, float((np.abs(after - before) / step).max()))
    return most


def _left(copy: Compressed) -> float:
    return float(sum(np.count_nonzero(a) for _, a in _values(copy).items() if a.ndim == 2))


def _bits(model: LanguageModel, secret: np.ndarray) -> float:
    draw = stream(0, "selfcheck compression references")
    references = random_sentences(REFERENCES, WORDS, draw)
    references = references[(references != secret).any(axis=1)]
    nats = [exposure.sentence_nats(model, rows, model.device) for rows in (secret, references)]
    return float(ranks.exposure_bits(*nats)[0])


def _above_entropy(model: LanguageModel, secret: np.ndarray) -> float:
    text = rows_of(secret)
    batch = Batch.of(text.tokens, text.offsets)
    log_probs = model.log_probs(batch).double()
    entropy = -(log_probs.exp() * log_probs).sum(1).mean()
    with torch.no_grad():
        return float(distilled.distance(model, model, batch).double() - entropy)
