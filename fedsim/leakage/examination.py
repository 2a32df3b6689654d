"""All that an adversary who holds the model can find out of every canary: one row each."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fedsim.device import threads
from fedsim.leakage import decoding, exposure, ranks
from fedsim.leakage.canaries import WORDS, Planted, random_sentences
from fedsim.leakage.exposure import Attacked
from fedsim.leakage.extrapolation import SkewNormal

BLOCK = 64  # canaries decoded at once, to bound the (canaries, beams, vocabulary) scores
METHODS = ("greedy", "beam", "random")


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
) -> pd.DataFrame:
    """One row a canary, controls included: what `measure_exposure` says of it, and beside that

    exact_rank, exact_exposure_bits: among all pairs of words in the place of its last two; of
        all planted canaries and the first `exact_controls` controls, NaN for the others.
    extrapolated_exposure_bits, ks_p: by the skew-normal law of the references; NaN where the
        test refuses the law.
    greedy, beam, random: whether each method finds the words after the first `prefix_words`.
    words: its word ids.

    holder_participations (canaries,): see `measure_exposure`. rng: draws the guesses of `random`.
    """
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
        exact = [
            ranks.exact_rank(model, sentence) if chosen else np.nan
            for sentence, chosen in zip(sentences, wanted, strict=True)
        ]
        guessed = random_sentences(guesses, vocabulary_size, rng)[:, prefix_words:]
        random = [ranks.likeliest(model, sentence, guessed) for sentence in sentences]
        beam = found_by_beams(model, prefixes, endings, beams)
    table["exact_rank"] = exact
    table["exact_exposure_bits"] = ranks.pair_bits(vocabulary_size) - np.log2(exact)
    table["extrapolated_exposure_bits"] = law.bits(table.nats.to_numpy(), most)
    table["ks_p"] = law.p_value
    table["beam"], table["random"] = beam, random
    table["words"] = [" ".join(map(str, row)) for row in sentences]
    return table


def found_by_beams(
    model: Attacked, prefixes: np.ndarray, endings: np.ndarray, beams: int
) -> np.ndarray:
    """Whether each (words,) ending is among the beams after its prefix; bool (n,)."""
    found = np.zeros(len(endings), bool)
    for start in range(0, len(endings), BLOCK):
        some = slice(start, start + BLOCK)
        kept = decoding.beam_completions(model, prefixes[some], endings.shape[1], beams)
        found[some] = (kept == endings[some][:, None]).all(axis=2).any(axis=1)
    return found
