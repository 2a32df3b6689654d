"""From a stream of messages to a stored corpus: collect, split by person, count words, write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.data.collecting import Collected, collect
from fedsim.data.drops import Drops
from fedsim.data.private_vocabulary import Release, person_counts, released
from fedsim.data.recipes import Cleaning, Recipe
from fedsim.data.sequences import gather
from fedsim.data.splitting import heldout_counts, split_order, split_sizes
from fedsim.data.storage import CorpusWriter
from fedsim.data.text import Tokenization, Tokenizer
from fedsim.data.vocabulary import CLASSES, SPECIALS, Vocabulary
from fedsim.errors import FedsimError

_BLOCK_SENTENCES = 200_000


def build(
    folder: Path,
    messages: Iterable[tuple[str, str]],
    recipe: Recipe,
    cleaning: Cleaning,
    text: Tokenization,
    max_words: int,
    vocabulary_size: int,
    drops: Drops | None = None,
    release: Release | None = None,
) -> None:
    """Write the corpus of `messages` into the existing, empty `folder`.

    drops: the account, in which the reader of the messages counts what it leaves out. release: how
    a private vocabulary is chosen.
    """
    drops = Drops() if drops is None else drops
    found = collect(messages, cleaning, Tokenizer(text), max_words, drops)
    tokens = np.frombuffer(found.tokens, np.intc) if found.tokens else np.empty(0, np.intc)
    lengths = np.array(found.lengths, np.int64)
    users = np.array(found.users, np.int64)
    kept = _kept_users(found, users, lengths, cleaning, recipe)
    sizes = split_sizes(len(kept), recipe.split, recipe.name, len(found.names))
    order = kept[split_order(len(kept), recipe.split)]
    _account(drops, found, kept, users, lengths, cleaning)

    # Sentences in the final order of users, each user's in the order of reading.
    rank = np.full(len(found.names), len(order), np.int64)
    rank[order] = np.arange(len(order))
    sentence_order = np.argsort(rank[users], kind="stable")
    sentences = np.bincount(rank[users], minlength=len(order))[: len(order)]
    sentence_order = sentence_order[: sentences.sum()]
    heldout = heldout_counts(sentences, recipe.split.heldout)
    heldout[sizes["train"] :] = 0

    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])[sentence_order]
    lengths = lengths[sentence_order]
    training = _training_mask(sentences, heldout, sizes["train"])
    counts = _word_counts(tokens, starts[training], lengths[training], len(found.words))
    if cleaning.word_users > 1:
        mine = np.where(training, lengths, 0)
        people = _word_users(tokens, starts, mine, sentences[: sizes["train"]], len(found.words))
        counts[people < cleaning.word_users] = 0
    vocabulary, private = Vocabulary.choose(found.words, counts, vocabulary_size), None
    if release is not None:
        owners = np.repeat(np.arange(len(sentences)), sentences)[training]
        mine = person_counts(
            tokens, starts[training], lengths[training], owners, found.words, release.words
        )
        mine[[place for place, word in enumerate(found.words) if word in SPECIALS]] = 0
        chosen, private = released(found.words, mine, sizes["train"], release)
        vocabulary = Vocabulary(chosen[: vocabulary_size - len(SPECIALS)])
        _require_words(vocabulary, private, recipe)
    final_ids = vocabulary.encode(found.words)

    drops.replaced += _classes(found, tokens, starts, lengths)
    writer = CorpusWriter(folder)
    try:
        for part in _user_blocks(sentences):
            span = slice(sentences[: part.start].sum(), sentences[: part.stop].sum())
            block = gather(tokens, starts[span], lengths[span])
            names = [found.names[user] for user in order[part]]
            writer.add(
                final_ids[block.tokens], lengths[span], sentences[part], heldout[part], names
            )
        about = recipe.model_dump(include={"name", "title", "licence", "citation", "homepage"})
        if private:
            about["vocabulary_release"] = private
        writer.finish(vocabulary, {**about, "split": sizes, "account": drops.as_dict()})
    finally:
        writer.close()


def _require_words(vocabulary: Vocabulary, private: Mapping[str, Any], recipe: Recipe) -> None:
    """Raises FedsimError where so much noise hides every word."""
    if len(vocabulary) == len(SPECIALS):
        raise FedsimError(
            f"No word of '{recipe.name}' is above the threshold of {private['threshold']:.4g} of "
            f"its {private['people']} training people: lower data.vocabulary_noise or "
            "data.vocabulary_words, or give more people's text."
        )


def _kept_users(
    found: Collected,
    users: np.ndarray,
    lengths: np.ndarray,
    cleaning: Cleaning,
    recipe: Recipe,
) -> np.ndarray:
    """The users with enough words, sorted by name so that the order of reading cannot matter."""
    totals = np.bincount(users, weights=lengths, minlength=len(found.names))
    enough = np.flatnonzero(totals >= cleaning.min_words)
    if not len(enough):
        raise FedsimError(
            f"The data set '{recipe.name}' has no user with at least {cleaning.min_words} words "
            f"({len(found.names)} users read): give more text or lower data.min_words."
        )
    return np.array(sorted(enough, key=lambda user: found.names[user]), np.int64)


def _account(
    drops: Drops,
    found: Collected,
    kept: np.ndarray,
    users: np.ndarray,
    lengths: np.ndarray,
    cleaning: Cleaning,
) -> None:
    """Close the sums of the account: what is written, and what users with too few words had."""
    stays = np.zeros(len(found.names), bool)
    stays[kept] = True
    rows = np.array(found.rows, np.int64)
    few = f"of users with fewer than {cleaning.min_words:,} words (min_words)"
    drops.users.kept = len(kept)
    drops.users.drop(few.removeprefix("of users "), int(np.count_nonzero(~stays)))
    drops.rows.kept = int(rows[stays].sum())
    drops.rows.drop(few, int(rows[~stays].sum()))
    written = stays[users]
    drops.sentences.kept = int(np.count_nonzero(written))
    drops.sentences.drop(few, int(np.count_nonzero(~written)))
    drops.words.kept = int(lengths[written].sum())
    drops.words.drop(few, int(lengths[~written].sum()))
    if not drops.balanced:
        raise RuntimeError(f"the account of the corpus does not add up: {drops.as_dict()}")


def _classes(
    found: Collected, tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> Counter[str]:
    """How many of the words that are written stand for a class, by the class."""
    total = _word_counts(tokens, starts, lengths, len(found.words))
    places = {word: place for place, word in enumerate(found.words) if word in CLASSES}
    return Counter({f"by {word}": int(total[place]) for word, place in places.items()})


def _training_mask(sentences: np.ndarray, heldout: np.ndarray, train: int) -> np.ndarray:
    """True for the sentences a model may see: training users' without the held-out tail."""
    ends = np.cumsum(sentences)
    position = np.arange(ends[-1])
    owner = np.repeat(np.arange(len(sentences)), sentences)
    return (owner < train) & (position < (ends - heldout)[owner])


def _word_counts(
    tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray, words: int
) -> np.ndarray:
    counts = np.zeros(words, np.int64)
    for first in range(0, len(starts), _BLOCK_SENTENCES):
        span = slice(first, first + _BLOCK_SENTENCES)
        block = gather(tokens, starts[span], lengths[span])
        counts += np.bincount(block.tokens, minlength=words)
    return counts


def _word_users(
    tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray, sentences: np.ndarray, words: int
) -> np.ndarray:
    """How many users typed each word, of users whose sentences follow each other."""
    people = np.zeros(words, np.int64)
    for part in _user_blocks(sentences):
        span = slice(sentences[: part.start].sum(), sentences[: part.stop].sum())
        block = gather(tokens, starts[span], lengths[span])
        owners = np.repeat(np.arange(part.start, part.stop), sentences[part])
        pairs = np.unique(np.repeat(owners, lengths[span]) * words + block.tokens)
        people += np.bincount(pairs % words, minlength=words)
    return people


def _user_blocks(sentences: np.ndarray) -> list[slice]:
    """Runs of whole users with about `_BLOCK_SENTENCES` sentences each."""
    ends = np.cumsum(sentences)
    cuts = [0]
    while cuts[-1] < len(sentences):
        done = ends[cuts[-1] - 1] if cuts[-1] else 0
        reach = int(np.searchsorted(ends, done + _BLOCK_SENTENCES, "right"))
        cuts.append(max(reach, cuts[-1] + 1))
    return [slice(a, b) for a, b in pairwise(cuts)]
