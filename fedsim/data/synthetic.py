"""A seeded federation of any size: Zipf words, log-normal users, something to learn.

Each word follows its predecessor in half of the cases (one of four fixed successors, the first in
five cases of eight), is one of the user's favourites in a tenth, and a fresh Zipf draw otherwise.
So a bigram model beats the unigrams, and personal text beats the average. Written block by block:
memory does not grow with the number of users.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedsim.data.recipes import Federation, Recipe, load_recipe
from fedsim.data.sequences import offsets_of
from fedsim.data.splitting import heldout_counts, split_sizes
from fedsim.data.storage import CorpusWriter, drafted
from fedsim.data.vocabulary import SPECIALS, Vocabulary
from fedsim.errors import FedsimError
from fedsim.paths import check_new
from fedsim.seeding import stream

_BLOCK_USERS = 5000  # part of what a seed means: another block size gives other text
_SIGMA_SENTENCES = 1.0  # log-normal spread between users
_MOST_SENTENCES = 50  # of a user, in medians
_MEAN_LOG_WORDS, _SIGMA_WORDS = 1.8, 0.6  # sentences of 6 words in the middle, 7.2 on average
_SUCCESSORS = 4
_LIKELY = np.array([0, 0, 0, 0, 0, 1, 2, 3], np.int8)  # which successor, for a draw from 0 to 7
_FOLLOW, _FAVOUR = 0.5, 0.1
_FAVOURITES = 8
_CONSONANTS, _VOWELS = "bdfghjklmnprstvwz", "aeiou"


@dataclass(frozen=True)
class _Language:
    """zipf: int32 (2^k,), a uniform draw from it is a Zipf word; follow: int32 (words, 4)."""

    zipf: np.ndarray
    follow: np.ndarray


def write(folder: Path, recipe: Recipe, vocabulary: int, max_words: int) -> None:
    """Write the recipe's generated federation as a corpus into the existing, empty `folder`."""
    plan = recipe.generated
    if plan is None:
        raise ValueError(f"the recipe '{recipe.name}' is not a generated one")
    words = vocabulary - len(SPECIALS)
    # The size is in the seed so that nobody takes two sizes for prefixes of one federation.
    text = json.dumps([plan.model_dump(), vocabulary, max_words])
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "little")
    sizes = split_sizes(plan.users, recipe.split, recipe.name, plan.users)
    language = _language(words, seed)
    writer = CorpusWriter(folder)
    try:
        for first in range(0, plan.users, _BLOCK_USERS):
            users = min(_BLOCK_USERS, plan.users - first)
            draw = stream(seed, "synthetic", round=first // _BLOCK_USERS)
            sentences = _log_normal(
                draw,
                users,
                np.log(plan.median_sentences),
                _SIGMA_SENTENCES,
                int(np.ceil(_MOST_SENTENCES * plan.median_sentences)),
            )
            lengths = _log_normal(
                draw, int(sentences.sum()), _MEAN_LOG_WORDS, _SIGMA_WORDS, max_words
            )
            heldout = heldout_counts(sentences, recipe.split.heldout)
            heldout[max(0, sizes["train"] - first) :] = 0
            tokens = _tokens(draw, language, sentences, lengths)
            names = [f"user{number:07d}" for number in range(first, first + users)]
            writer.add(tokens, lengths, sentences, heldout, names)
        about = recipe.model_dump(include={"name", "title", "licence", "citation", "homepage"})
        writer.finish(Vocabulary(list(_spellings(words))), {**about, "split": sizes})
    finally:
        writer.close()


def synthesise(
    folder: Path,
    federation: Federation,
    vocabulary: int = 10_000,
    max_words: int = 30,
) -> None:
    """Write a federation of any size into the new `folder`, which `data.path` then opens.

    Raises FedsimError where the folder holds something already or cannot be written.
    """
    check_new(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FedsimError(f"{folder}: exists already: remove it or give another folder.")
    recipe = load_recipe("synthetic").model_copy(update={"generated": federation})
    try:
        with drafted(folder) as draft:
            write(draft, recipe, vocabulary, max_words)
            draft.chmod(0o755)  # mkdtemp lets only the owner in
            draft.rename(folder)
    except OSError as error:
        raise FedsimError(
            f"{folder}: cannot be written ({error}): free some space or give another folder."
        ) from error


def _log_normal(
    draw: np.random.Generator, count: int, mean: float, sigma: float, most: int
) -> np.ndarray:
    """Whole numbers from 1 to `most`, int64 (count,)."""
    values = np.rint(np.exp(draw.normal(mean, sigma, count)))
    return np.clip(values, 1, most).astype(np.int64)


def _language(words: int, seed: int) -> _Language:
    chances = 1.0 / np.arange(1, words + 1)
    size = 1 << max(20, (16 * words).bit_length())  # fine enough for the rarest word
    edges = np.cumsum(chances) / chances.sum()
    zipf = np.searchsorted(edges, (np.arange(size) + 0.5) / size).astype(np.int32)
    draw = stream(seed, "synthetic language")
    # Successors are Zipf words too, so following them keeps the overall frequencies Zipf-like.
    follow = zipf[draw.integers(0, size, (words, _SUCCESSORS))]
    return _Language(zipf, follow)


def _tokens(
    draw: np.random.Generator, language: _Language, sentences: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    """The words of a block, int32 (sum of lengths,); position by position over all sentences."""
    starts = offsets_of(lengths)
    out = np.empty(starts[-1], np.int32)
    size = len(language.zipf)
    favourites = language.zipf[draw.integers(0, size, (len(sentences), _FAVOURITES))]
    # From the longest sentence down, those that reach a position are the first ones.
    order = np.argsort(-lengths, kind="stable")
    owner = np.repeat(np.arange(len(sentences)), sentences)[order]
    where = starts[:-1][order]
    reach = np.searchsorted(-lengths[order], -np.arange(lengths.max()), "left")
    before = np.empty(0, np.int32)
    for position, count in enumerate(reach):
        word = language.zipf[draw.integers(0, size, count, np.int32)]
        kind = draw.random(count, np.float32)
        choice = draw.integers(0, _FAVOURITES, count, np.int8)
        if position:
            follows = kind < _FOLLOW
            word = np.where(follows, language.follow[before[:count], _LIKELY[choice]], word)
        favoured = np.flatnonzero(kind > 1 - _FAVOUR)
        word[favoured] = favourites[owner[favoured], choice[favoured]]
        out[where[:count] + position] = word
        before = word
    out += np.int32(len(SPECIALS))
    return out


def _spellings(count: int) -> Iterator[str]:
    """Different speakable words, in order of rank: ba, be, ..., zu, baba, babe, ..."""
    syllables = [c + v for c in _CONSONANTS for v in _VOWELS]
    for number in range(count):
        word, rest = syllables[number % len(syllables)], number // len(syllables)
        while rest:
            rest -= 1
            word = syllables[rest % len(syllables)] + word
            rest //= len(syllables)
        yield word
