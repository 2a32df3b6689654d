"""All that an adversary who holds the model can find out of every canary: one row each."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fedsim.device import threads
from fedsim.leakage import decoding, exposure, ranks
from fedsim.leakage.canaries import WORDS, Planted, random_sentences
from fedsim.leakage.exposure import Attacked
from fedsim.leakage.extrapolation import SkewNormal
from fedsim.steps import Heard, Steps, nobody, steps

BLOCK = 64  # canaries decoded at once, to bound the (canaries, beams, vocabulary) scores
METHODS = ("greedy", "beam", "random")
# About how long each part takes beside the others: what comes out is followed through all guesses.
TIMES = {"exposure": 1.0, "exact": 10.0, "random": 8.0, "beam": 2.0}


def examine(
    model: Attacked,
    planted: Planted,
    holder_participations: np.ndarray,
    vocabulary_size: int,
    rng: np.random.Generator,
    *,
    prefix_words: int,
    beams: int,
    guesses: int,
    exact_controls: int,
    heard: Heard = nobody,
) -> pd.DataFrame:
    """One row a canary, controls included: what `measure_exposure` says of it, and beside that

    exact_rank, exact_exposure_bits: among all pairs of words in the place of its last two; of
        all planted canaries and the first `exact_controls` controls, NaN for the others.
    extrapolated_exposure_bits, ks_p: by the skew-normal law of the references; NaN where the
        test refuses the law.
    greedy, beam, random: whether each method finds the words after the first `prefix_words`.
    words: its word ids.

    holder_participations (canaries,): see `measure_exposure`. rng: draws the guesses of `random`.
    heard: is told what share is done.
    """
    phases = Steps(TIMES, heard)
    phases.part("exposure")
    table = exposure.measure_exposure(
        model, planted, prefix_words, holder_participations, model.device
    )
    table = table.rename(columns={"extracted": "greedy"})
    sentences = np.array([c.words for c in planted.canaries]).reshape(-1, WORDS)
    prefixes, endings = sentences[:, :prefix_words], sentences[:, prefix_words:]
    with threads(1):  # as in measure_exposure: a rank is the same on every machine
        reference_nats = exposure.sentence_nats(model, planted.references, model.device)
        law = SkewNormal.fit(reference_nats)
        most = WORDS * ranks.pair_bits(vocabulary_size) / 2
        wanted = (table.kind == "planted") | (table.groupby("kind").cumcount() < exact_controls)
        exact = np.full(len(sentences), np.nan)
        ranked = np.flatnonzero(wanted)
        for index in phases.over("exact", ranked, len(ranked)):
            exact[index] = ranks.exact_rank(model, sentences[index])
        guessed = random_sentences(guesses, vocabulary_size, rng)[:, prefix_words:]
        random = [
            ranks.likeliest(model, sentence, guessed)
            for sentence in phases.over("random", sentences, len(sentences))
        ]
        beam = found_by_beams(model, prefixes, endings, beams, phases.part("beam"))
    table["exact_rank"] = exact
    table["exact_exposure_bits"] = ranks.pair_bits(vocabulary_size) - np.log2(exact)
    table["extrapolated_exposure_bits"] = law.bits(table.nats.to_numpy(), most)
    table["ks_p"] = law.p_value
    table["beam"], table["random"] = beam, random
    table["words"] = [" ".join(map(str, row)) for row in sentences]
    return table


def found_by_beams(
    model: Attacked,
    prefixes: np.ndarray,
    endings: np.ndarray,
    beams: int,
    heard: Heard = nobody,
) -> np.ndarray:
    """Whether each (words,) ending is among the beams after its prefix; bool (n,)."""
    found = np.zeros(len(endings), bool)
    starts = range(0, len(endings), BLOCK)
    for start in steps(starts, len(starts), heard):
        some = slice(start, start + BLOCK)
        kept = decoding.beam_completions(model, prefixes[some], endings.shape[1], beams)
        found[some] = (kept == endings[some][:, None]).all(axis=2).any(axis=1)
    return found
