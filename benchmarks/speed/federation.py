"""The federation of the comparison, written as a corpus of fedsim and exported as a work order.

A thousand users, 40 sentences in the middle and 256 at most, sentences of 1 to 20 words, 10,000
Zipf words of which everybody has favourites, one word in fifty unknown. `data synth` has other
limits (2,000 sentences, seven words on average), and texts as short as those would flatter an
engine that does nothing for padding.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedsim.config import Config, from_dict
from fedsim.data.storage import CorpusWriter
from fedsim.data.vocabulary import SPECIALS, UNK, Vocabulary
from fedsim.federation import open_federation
from fedsim.models import CifgOptions, LstmOptions, TransformerOptions, build
from fedsim.models.loss import NOMINAL_TOKENS
from fedsim.parameters import Parameters
from fedsim.seeding import stream, torch_stream
from server.sampling import Draw, sample_cohort
from speed.work_order import About, WorkOrder

USERS, WORDS = 1000, 10_000
MEDIAN_SENTENCES, SIGMA_SENTENCES, MOST_SENTENCES = 40, 0.9, 256
MEDIAN_WORDS, SIGMA_WORDS, MOST_WORDS = 9, 0.6, 20
FAVOURITES, FAVOUR, UNKNOWN = 200, 8.0, 0.02
BATCH_SIZE, LR = 16, 0.3
SEED = 1

_NOT_TRAINED = {"validation": 1, "donors": 1, "test": 1}  # fedsim wants one of each
_FAMILIES = {"lstm": LstmOptions, "cifg": CifgOptions, "transformer": TransformerOptions}


def write_corpus(folder: Path) -> None:
    """Write the federation into a new folder."""
    folder.mkdir(parents=True)
    users = USERS + sum(_NOT_TRAINED.values())
    draw = stream(SEED, "speed benchmark")
    sentences = _log_normal(draw, users, MEDIAN_SENTENCES, SIGMA_SENTENCES, MOST_SENTENCES)
    chances = 1.0 / np.arange(1, WORDS + 1)
    writer = CorpusWriter(folder)
    for user, count in enumerate(sentences):
        lengths = _log_normal(draw, count, MEDIAN_WORDS, SIGMA_WORDS, MOST_WORDS)
        tokens = _words(draw, chances, int(lengths.sum()))
        nothing = np.zeros(1, np.int64)
        writer.add(tokens, lengths, sentences[user : user + 1], nothing, [f"user{user:04d}"])
    about = {"name": "speed", "title": "Speed benchmark", "licence": "none needed (generated)"}
    about |= {"citation": "none", "homepage": "none"}
    vocabulary = Vocabulary([f"word{number}" for number in range(WORDS)])
    writer.finish(vocabulary, {**about, "split": {"train": USERS, **_NOT_TRAINED}})


def _log_normal(
    draw: np.random.Generator, count: int, median: float, sigma: float, most: int
) -> np.ndarray:
    values = np.rint(np.exp(draw.normal(np.log(median), sigma, count)))
    return np.clip(values, 1, most).astype(np.int64)


def _words(draw: np.random.Generator, chances: np.ndarray, count: int) -> np.ndarray:
    mine = chances.copy()
    mine[draw.integers(0, WORDS, FAVOURITES)] *= FAVOUR
    words = draw.choice(WORDS, count, p=mine / mine.sum()) + len(SPECIALS)
    words[draw.random(count) < UNKNOWN] = UNK
    return words


def work_order(corpus: Path, model: str, rounds: int, cohort: int) -> WorkOrder:
    """What fedsim would do in so many rounds, drawn from fedsim's own streams."""
    config = from_dict(
        {"seed": SEED, "data": {"path": str(corpus)}, "model": model, "canaries": {"per_cell": 0}}
    )
    federation = open_federation(config)
    cohorts = np.stack(
        [
            sample_cohort("fixed", Draw(federation.population, cohort, SEED, round))
            for round in range(1, rounds + 1)
        ]
    )
    orders = [
        stream(SEED, "batches", round, int(user)).permutation(len(federation.sequences(int(user))))
        for round, users in enumerate(cohorts, 1)
        for user in users
    ]
    texts = [federation.sequences(user) for user in range(USERS)]
    return WorkOrder(
        _about(config, corpus, len(federation.corpus.vocabulary)),
        np.concatenate([text.tokens for text in texts]),
        _running(np.concatenate([text.lengths for text in texts])),
        _running(np.array([len(text) for text in texts])),
        cohorts,
        np.concatenate(orders),
        _running(np.array([len(order) for order in orders])),
        _initial(config, len(federation.corpus.vocabulary)),
    )


def _about(config: Config, corpus: Path, vocabulary: int) -> About:
    options = config.model.options
    family = next(name for name, cls in _FAMILIES.items() if isinstance(options, cls))
    sizes = options.model_dump(exclude={"dropout"})
    name, path = config.model.name, str(corpus.resolve())
    return About(name, family, sizes, vocabulary, BATCH_SIZE, LR, NOMINAL_TOKENS, SEED, path)


def _initial(config: Config, vocabulary: int) -> dict[str, np.ndarray]:
    """The model before round 1, as the server draws it."""
    model = build(config.model.options, vocabulary)
    model.initialise(torch_stream(SEED, "init"))
    return {name: array.copy() for name, array in Parameters.from_model(model).items()}


def _running(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
