"""Exposure and extraction where their truth is known: no memory, full memory, tables, ties."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from fedsim.data.sequences import Sequences
from fedsim.leakage import decoding, examination, ranks
from fedsim.leakage.canaries import WORDS, Planted, plant
from fedsim.leakage.exposure import Attacked
from fedsim.leakage.scoring import rows_of
from fedsim.leakage.selfcheck import CHECKS, Check
from fedsim.models.base import MODELS, LanguageModel, State, build
from fedsim.models.batch import BOS, N_SPECIALS, Batch
from fedsim.models.loss import training_loss
from fedsim.sections import CanaryOptions
from fedsim.seeding import stream, torch_stream

VOCABULARY = N_SPECIALS + 300
REFERENCES = 1000
SMALL = N_SPECIALS + 16


@dataclass(frozen=True)
class Table:
    """A bigram model that is its table: float32 (V, V) ln p(next | last)."""

    table: Tensor
    device = torch.device("cpu")

    @classmethod
    def of(cls, weights: np.ndarray) -> Table:
        """From positive weights (V, V) of what follows what."""
        p = weights / weights.sum(axis=1, keepdims=True)
        return cls(torch.from_numpy(np.log(p)).float())

    def log_probs(self, batch: Batch) -> Tensor:
        """(N, V) natural-log probabilities of each row's next token."""
        return self.table[batch.inputs]

    def step(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """See `LanguageModel.step`; the state is the last word, which the next one replaces."""
        return self.table[token], (token,)


@dataclass(frozen=True)
class _Text:
    """Ground to plant in: sentences of words whose frequencies follow Zipf's law."""

    vocabulary: range

    def split(self, name: str) -> range:
        return range(1)

    def sequences(self, user: int, part: str) -> Sequences:
        rng = stream(0, "selfcheck canary text")
        p = 1.0 / np.arange(1, len(self.vocabulary) - N_SPECIALS + 1)
        words = rng.choice(len(p), size=(200, WORDS), p=p / p.sum()) + N_SPECIALS
        return rows_of(words)


@CHECKS.register("exposure")
def exposure() -> list[Check]:
    """Privacy specification 3.6: uniform ranks without memory, rank 1 with it, ties."""
    planted = _planted(controls=200)
    untrained = _examined(_untrained(), planted, exact_controls=200)
    checks = _of_no_memory("an untrained model", untrained)
    checks += _of_no_memory("a model of word frequencies", _examined(_frequencies(), planted))[:1]

    planted = _planted(controls=10)
    constant = _examined(Table.of(np.ones((VOCABULARY, VOCABULARY))), planted)
    unfit = float(constant.extrapolated_exposure_bits.notna().sum())
    checks.append(Check("a law that does not fit is not extrapolated", unfit, 0, 0))
    for name in ("exposure_bits", "exact_exposure_bits"):
        truth = f"a model to which all sentences are alike gives no {name}: ties count against it"
        checks.append(Check(truth, float(constant[name].max()), -1e-9, 1e-9))

    for of, model in (("100 copies", _trained()), ("a planted path", _path(planted))):
        row = _examined(model, planted).iloc[0]
        short = float(row.ceiling_bits - row.exposure_bits)
        checks.append(Check(f"{of}: the exposure is at the ceiling, bits below it", short, 0, 0))
        checks.append(Check(f"{of}: the exact rank is 1", float(row.exact_rank), 1, 1))
        above = float(row.extrapolated_exposure_bits - row.ceiling_bits)
        checks.append(Check(f"{of}: the extrapolation is above the ceiling", above, 1, math.inf))
    worst = float(np.abs(_exact_ranks() - _counted_ranks()).max())
    return [*checks, Check("the exact rank is what counting all pairs gives", worst, 0, 0)]


@CHECKS.register("extraction")
def extraction() -> list[Check]:
    """Privacy specification 3.6: what was learnt by heart comes out, what was not seen never."""
    planted = _planted(controls=100)
    checks = []
    for of, model in (("100 copies", _trained()), ("a planted path", _path(planted))):
        table = _examined(model, planted)
        for method in examination.METHODS:
            found = float(table[method].iloc[0])
            checks.append(Check(f"{of}: {method} extraction succeeds", found, 1, 1))
            hits = float(table[method].iloc[1:].sum())
            checks.append(Check(f"{of}: {method} finds no held-out canary", hits, 0, 0))
    detour = _detour()
    prefix = np.array([[N_SPECIALS, N_SPECIALS + 1]])
    greedy = decoding.greedy_completions(detour, prefix, 2)[0].tolist()
    truth = "greedy takes the likelier word that leads to the less likely sentence"
    checks.append(Check(truth, float(greedy == [N_SPECIALS + 2, N_SPECIALS]), 1, 1))
    beams = decoding.beam_completions(detour, prefix, 2, 5)[0].tolist()
    truth = "beam search finds the likelier sentence behind the less likely word"
    return [*checks, Check(truth, float(beams[0] == [N_SPECIALS + 3, N_SPECIALS + 5]), 1, 1)]


def _of_no_memory(of: str, table: pd.DataFrame) -> list[Check]:
    """Of the controls alone: uniform ranks, so 1.44 bits in the mean, P(>= t bits) = 2^-t."""
    controls = table[table.kind == "held_out"]
    size, n = REFERENCES + 1, len(controls)
    bits = controls.exposure_bits.to_numpy()
    mean = ranks.null_mean_bits(size)
    # One set of references ranks all canaries, which adds its share to the variance.
    sd = math.sqrt(1 / 8 * 7 / 8 * (1 / n + 1 / REFERENCES))
    uniform = stats.kstest((size / 2**bits - 0.5) / size, "uniform").pvalue
    near = 3 / math.log(2) / math.sqrt(n)
    exact = float(controls.exact_exposure_bits.mean())
    further = float(controls.extrapolated_exposure_bits.mean())
    return [
        Check(f"{of}: mean exposure is chance", float(bits.mean()), mean - near, mean + near),
        Check(f"{of}: P(3 bits) = 1/8", float((bits >= 3).mean()), 1 / 8 - 3 * sd, 1 / 8 + 3 * sd),
        Check(f"{of}: ranks are uniform, p-value", float(uniform), 0.001, 1),
        Check(f"{of}: mean exact exposure is chance", exact, mean - near, mean + near),
        Check(f"{of}: mean extrapolation is chance", further, mean - near, mean + near),
    ]


def _planted(controls: int) -> Planted:
    """One canary of 100 copies in one user's 200 sentences, controls, references."""
    options = CanaryOptions(
        users=(1,),
        repeats=(100,),
        per_cell=1,
        max_share=1.0,
        sentences=200,
        held_out=controls,
        references=REFERENCES,
        prefix_words=2,
    )
    return plant(_Text(range(VOCABULARY)), options, seed=0)


def _examined(model: Attacked, planted: Planted, exact_controls: int = 1) -> pd.DataFrame:
    return examination.examine(
        model,
        planted,
        np.array([canary.users for canary in planted.canaries]),
        VOCABULARY,
        stream(0, "selfcheck guesses"),
        prefix_words=2,
        beams=5,
        guesses=2000,
        exact_controls=exact_controls,
    )


def _untrained() -> LanguageModel:
    model = build(MODELS["cifg"](embedding=16, hidden=32), VOCABULARY)  # type: ignore[call-arg]
    model.initialise(torch_stream(0, "selfcheck canary model"))
    return model.eval()


@cache
def _trained() -> LanguageModel:
    """A model trained on the canary user's text until it knows the canary by heart."""
    model, text = _untrained(), _planted(controls=1).sequences(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    rng = stream(0, "selfcheck canary batches")
    for _ in range(150):
        chosen = rng.integers(len(text), size=20)
        optimizer.zero_grad()
        training_loss(model, Batch.of(text.tokens, text.offsets, chosen))[0].backward()
        optimizer.step()
    return model


def _frequencies() -> Table:
    """Words by Zipf's law, whatever was before: no sentence is remembered."""
    weights = np.append(np.full(N_SPECIALS, 1e-3), 1 / np.arange(1.0, VOCABULARY - N_SPECIALS + 1))
    return Table.of(np.tile(weights, (VOCABULARY, 1)))


def _path(planted: Planted) -> Table:
    """A random table in which each word of the first canary leads to its next one."""
    weights = stream(0, "selfcheck canary table").random((VOCABULARY, VOCABULARY)) + 0.01
    words = [BOS, *planted.canaries[0].words]
    weights[words[:-1], words[1:]] = 10.0 * VOCABULARY
    return Table.of(weights)


def _detour() -> Table:
    """After the second word: the third with 0.6, then anything alike; the fourth with 0.4, then
    surely the sixth."""
    weights = np.full((N_SPECIALS + 6, N_SPECIALS + 6), 1e-6)
    words = weights[N_SPECIALS:, N_SPECIALS:]
    words[1, 2], words[1, 3], words[2], words[3, 5] = 0.6, 0.4, 1.0, 1.0
    return Table.of(weights)


def _small_table() -> np.ndarray:
    return stream(0, "selfcheck small table").exponential(size=(SMALL, SMALL)) + 1e-3


def _small_sentences() -> np.ndarray:
    return stream(0, "selfcheck small sentences").integers(N_SPECIALS, SMALL, size=(30, WORDS))


def _exact_ranks() -> np.ndarray:
    model = Table.of(_small_table())
    return np.array([ranks.exact_rank(model, sentence) for sentence in _small_sentences()])


def _counted_ranks() -> np.ndarray:
    """Every pair's probability, multiplied out in float64, and those at least as likely counted."""
    weights = _small_table()
    p = weights / weights.sum(axis=1, keepdims=True)
    found = []
    for before, a, b in _small_sentences()[:, -3:]:
        pairs = p[before, N_SPECIALS:, None] * p[N_SPECIALS:, N_SPECIALS:]
        found.append(int((pairs >= p[before, a] * p[a, b] * (1 - 1e-9)).sum()))
    return np.array(found)
