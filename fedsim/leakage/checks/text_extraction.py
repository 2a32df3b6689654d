"""Known truth of extraction from real text: what comes out is what was put in, and no more."""

from __future__ import annotations

import math

import numpy as np

from fedsim.data.sequences import Sequences, gather
from fedsim.leakage import completion, decoding, ranking
from fedsim.leakage.base import NAN, Findings
from fedsim.leakage.checks.village import (
    MEMBERS,
    PHRASES,
    RUMOURS,
    SAID,
    SECRETS,
    WORDS,
    knowing,
    untrained,
    village,
)
from fedsim.leakage.measures.generation import Generation
from fedsim.leakage.measures.memorisation import Memorisation
from fedsim.leakage.scoring import Scored, rows_of, score
from fedsim.leakage.selfcheck import CHECKS, Check
from fedsim.leakage.text_index import TextIndex
from fedsim.leakage.texts import Texts
from fedsim.models.batch import N_SPECIALS
from fedsim.seeding import stream

PREFIX = 2


@CHECKS.register("completion")
def completions() -> list[Check]:
    """A planted sentence, none planted, and decoding word by word."""
    rng = stream(0, "selfcheck completion")
    size = 200
    planted = rng.permutation(size - N_SPECIALS)[:5].astype(np.int32)[None] + N_SPECIALS
    random = rng.integers(N_SPECIALS, size, size=(500, 5), dtype=np.int32)
    model = untrained(size, rng)
    # Sentences that this model says itself half of the time, so that there is something to find.
    said = random.copy()
    said[::2, PREFIX:] = decoding.greedy_completions(model, said[::2, :PREFIX], 3)
    stepwise = decoding.greedy_completions(model, said[:, :PREFIX], 3)
    agree = _extracted(model, said) == (stepwise == said[:, PREFIX:]).all(1)
    return [
        Check("a planted sentence is extracted", _rate(knowing(planted, size), planted), 1.0, 1.0),
        Check("an untrained model gives away nothing", _rate(model, random), 0.0, 0.0),
        Check("one pass finds what decoding word by word finds", float(agree.mean()), 1.0, 1.0),
    ]


def _extracted(model: Scored, sentences: np.ndarray) -> np.ndarray:
    sequences = rows_of(sentences)
    trials = completion.Trials(sequences, PREFIX, least=1, most=0)
    return trials.given(completion.greedy_words(model, sequences) == sequences.tokens)


def _rate(model: Scored, sentences: np.ndarray) -> float:
    return float(_extracted(model, sentences).mean())


@CHECKS.register("memorisation")
def memorised() -> list[Check]:
    """Members' secrets beside phrases that everybody says."""
    options = {"prefix_words": (PREFIX,), "suffix_words": 0}
    found = Memorisation.model_validate(options).measure(village())
    each = SAID + 2  # sentences of a person: phrases, a secret, noise
    learned = SECRETS / (MEMBERS * each)
    at = f"prefix={PREFIX}"
    predictable = SAID / each
    return [
        _exactly(found, "extraction_rate", at, predictable + learned, "phrases and secrets"),
        _exactly(found, "extraction_rate", f"{at} of=non-members", predictable, "phrases only"),
        _exactly(found, "beyond_predictable", at, learned, "secrets are beyond strangers' rate"),
        _exactly(found, "beyond_predictable", f"{at} by=trigram", learned, "and the trigram's"),
        _exactly(found, "beyond_predictable", f"{at} users=1", SECRETS / (2 * MEMBERS),
                 "of what one person says, secrets and noise, half of the secrets"),
        _exactly(found, "eidetic_sentences", f"{at} users<=1", SECRETS, "each secret is one's own"),
        _exactly(found, "users_exposed", f"{at} users<=1", SECRETS, "and exposes that person"),
    ]  # fmt: skip


@CHECKS.register("generation")
def generated() -> list[Check]:
    """A model that says phrases, secrets and rumours equally often."""
    known = PHRASES + SECRETS + RUMOURS
    options = {"sentences": 3000, "min_words": WORDS, "top_n": known}
    found = Generation.model_validate(options).measure(village())
    trained = (PHRASES + SECRETS) / known
    # Half of the members hold half of the secrets, but for the draw: hypergeometric, 5 deviations.
    equal, spread = (PHRASES + SECRETS / 2) / known, 5 * 2.76 / known
    return [
        _exactly(found, "distinct_sentences", "", known, "all that the model knows comes out"),
        _exactly(found, "found_share", "", trained, "rumours are nobody's training text"),
        _exactly(found, "precision_at_100", "score=zlib", trained, "nor after ranking"),
        Check(
            "half of the text holds half of the secrets",
            _figure(found, "found_share", "equal text"),
            equal - spread,
            equal + spread,
        ),
        Check(
            "strangers' text holds the phrases",
            _control(found, "found_share", "equal text"),
            PHRASES / known,
            PHRASES / known,
        ),
        _exactly(found, "eidetic_sentences", "users<=1", SECRETS, "each secret is one's own"),
        _exactly(found, "users_exposed", "users<=1", SECRETS, "and exposes that person"),
    ]


@CHECKS.register("suspicion")
def suspected() -> list[Check]:
    """The scores of generated sentences, by hand, and the precision of a ranking."""
    rng = stream(0, "selfcheck suspicion")
    # Twelve different letters: a block of fixed Huffman codes, 8 bits each, and nothing else.
    text = rows_of(np.arange(2)[None])
    bits = ranking.compressed(np.full(2, -48 * math.log(2)), text, ["abcdef", "ghijk"])
    lengths = rng.integers(1, 13, size=200)
    ragged = gather(np.arange(13), np.zeros(200, np.int64), lengths)
    log_probs = -rng.exponential(size=len(ragged.tokens))
    apart = np.abs(ranking.windows(log_probs, ragged) - _least_windows(log_probs, ragged)).max()
    precision, chance = _precisions(rng)
    return [
        Check("zlib says of 96 bits that they are 96 bits", float(bits[0]), 1 - 1e-12, 1 + 1e-12),
        Check("windows are those of counting", float(apart), 0.0, 1e-9),
        Check("100 of 1000 memorised: the first 100 are these", precision, 1.0, 1.0),
        # 50 rankings of 100 draws without replacement, 4 deviations.
        Check("100 of 1000 at random: the base rate", chance, 0.1 - 0.0161, 0.1 + 0.0161),
    ]


def _least_windows(log_probs: np.ndarray, ragged: Sequences) -> np.ndarray:
    """The definition, window by window."""
    out = []
    for first, last in zip(ragged.offsets[:-1], ragged.offsets[1:], strict=True):
        nats = -log_probs[first:last]
        width = min(5, len(nats))
        out.append(min(nats[i : i + width].mean() for i in range(len(nats) - width + 1)))
    return np.array(out)


def _precisions(rng: np.random.Generator) -> tuple[float, float]:
    """Of a model that memorised 100 of 1000 candidates, and of scores that know nothing."""
    size = N_SPECIALS + 500
    planted = rng.permutation(500).reshape(100, 5).astype(np.int32) + N_SPECIALS
    others = rng.integers(N_SPECIALS, size, size=(900, 5), dtype=np.int32)
    candidates = rows_of(rng.permutation(np.concatenate([planted, others])))
    index = TextIndex(Texts(rows_of(planted), np.arange(100)))
    hits = index.find(candidates, whole=True).repeats > 0
    scores = score(knowing(planted, size), candidates)
    nats = ranking.perplexity(scores.log_probs, candidates)
    known = ranking.first_ranked(nats, candidates, 100)
    random = [ranking.first_ranked(rng.random(1000), candidates, 100) for _ in range(50)]
    return float(hits[known].mean()), float(np.mean([hits[top].mean() for top in random]))


@CHECKS.register("text-index")
def indexed() -> list[Check]:
    """Which sentences hold some words, against searching for them."""
    rng = stream(0, "selfcheck index")
    words = rng.integers(4, 9, size=4000).astype(np.int32)
    starts = np.sort(rng.integers(0, 3990, size=600))
    text = gather(words, starts, rng.integers(0, 11, size=600))
    queries = gather(words, starts[:150], rng.integers(1, 5, size=150))
    users = np.arange(600) % 40
    index = TextIndex(Texts(text, users))
    wrong = 0
    for whole in (False, True):
        found = index.find(queries, whole)
        for number, query in enumerate(queries):
            holding = [i for i, s in enumerate(text) if _holds(s.tolist(), query.tolist(), whole)]
            pairs = found.sentence[found.query == number].tolist()
            wrong += pairs != holding or found.users[number] != len(set(users[holding].tolist()))
    return [Check("queries with another answer than searching gives", float(wrong), 0.0, 0.0)]


def _holds(sentence: list[int], query: list[int], whole: bool) -> bool:
    if whole:
        return sentence == query
    width = len(query)
    return any(sentence[i : i + width] == query for i in range(len(sentence) - width + 1))


def _exactly(found: Findings, quantity: str, group: str, truth: float, why: str) -> Check:
    return Check(why, _figure(found, quantity, group), truth - 1e-9, truth + 1e-9)


def _figure(found: Findings, quantity: str, group: str) -> float:
    """The estimate of a row; NaN, which fails, where there is none."""
    rows = [row for row in found.rows if (row.quantity, row.group) == (quantity, group)]
    return rows[0].estimate if rows else NAN


def _control(found: Findings, quantity: str, group: str) -> float:
    rows = [row for row in found.rows if (row.quantity, row.group) == (quantity, group)]
    return rows[0].control if rows else NAN
