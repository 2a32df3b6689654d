"""Whether people of one text are in another: by their names, and by the sentences that they said.

Sentences are compared as hashes of the words in them, in any order, and only those of so many
words that two people seldom say the same. On chitchat, the NUS SMS corpus and Ubuntu IRC, nobody
has more than two sentences in another of the three, nor more than one where it would be a fifth of
theirs (measured 2026-11-29); a person who is in both texts has nearly all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fedsim.data.sequences import Sequences
from fedsim.data.store import Corpus
from fedsim.data.vocabulary import UNK

WORDS = 5  # of a sentence that is compared, at least
SEVERAL = 3  # different sentences that a person must have in the other text
SHARE = 0.2  # of the person's sentences that are compared
_AT_ONCE = 200_000  # sentences


@dataclass(frozen=True)
class Overlap:
    """What was compared between a text and the people of a corpus, and what was found.

    names: names of people that are in both; name: one of them. people: of the corpus, of whom
    `comparable` have at least `SEVERAL` different sentences to compare, `sentences` in all.
    overlapping: people with `SEVERAL` or more in the other text that are `SHARE` or more of
    theirs. closest, of_closest: sentences in the other text, and of how many, of the person with
    the largest share among those who overlap, else of the one with the most; person: who that is.
    """

    names: int
    name: str
    people: int
    comparable: int
    sentences: int
    overlapping: int
    closest: int
    of_closest: int
    person: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without who they are."""
        return {k: v for k, v in asdict(self).items() if k not in ("name", "person")}


def overlap(text: Sequences, names: frozenset[str], corpus: Corpus, users: np.ndarray) -> Overlap:
    """Compare `text`, of people called `names`, with these users of `corpus`, ascending.

    Both texts are in the words of the corpus's vocabulary. Where it does not host the text, as
    on the server of a deployment, there is nothing to compare.
    """
    longest = max(int(text.lengths.max(initial=1)), WORDS)
    known = np.unique(_hashes(_cut(text, longest)[0]))
    compared, shared = _counts(corpus, users, longest, known)
    share = shared / np.maximum(compared, 1)
    found = (shared >= SEVERAL) & (share >= SHARE)
    place = (
        int(np.argmax(np.where(found, share, -1) if found.any() else shared)) if len(users) else -1
    )
    called = [corpus.user_name(int(user)) for user in users]
    common = sorted({name for name in called if name} & names)
    return Overlap(
        names=len(common),
        name=common[0] if common else "",
        people=len(users),
        comparable=int((compared >= SEVERAL).sum()),
        sentences=int(compared.sum()),
        overlapping=int(found.sum()),
        closest=int(shared[place]) if len(users) else 0,
        of_closest=int(compared[place]) if len(users) else 0,
        person=called[place] if len(users) else "",
    )


def _counts(
    corpus: Corpus, users: np.ndarray, longest: int, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each user: different sentences that are compared, and those of them in `known`."""
    compared, shared = np.zeros((2, len(users)), np.int64)
    for part in _blocks(corpus.sizes(users, "all")[:, 0]):
        mine = [corpus.sequences(int(user), "all") for user in users[part]]
        owners = np.repeat(np.arange(part.start, part.stop), [len(text) for text in mine])
        pieces, sentence = _cut(Sequences.concatenate(mine), longest)
        eligible = _eligible(pieces)
        pairs = np.stack([owners[sentence[eligible]].astype(np.uint64), _hashes(pieces)])
        who, said = np.unique(pairs, axis=1)
        compared += np.bincount(who.astype(np.int64), minlength=len(users))
        there = who[np.isin(said, known)].astype(np.int64)
        shared += np.bincount(there, minlength=len(users))
    corpus.forget_pages()
    return compared, shared


def _blocks(sentences: np.ndarray) -> Iterator[slice]:
    """Runs of whole users with about `_AT_ONCE` sentences each."""
    ends, first = np.cumsum(sentences), 0
    while first < len(sentences):
        done = ends[first - 1] if first else 0
        stop = max(int(np.searchsorted(ends, done + _AT_ONCE, "right")), first + 1)
        yield slice(first, stop)
        first = stop


def _cut(text: Sequences, longest: int) -> tuple[Sequences, np.ndarray]:
    """Sentences in pieces of at most `longest` words, and of which sentence each piece is.

    As `data.max_words` cuts them: texts that were cut at different lengths are made alike.
    """
    pieces = np.maximum(-(-text.lengths // longest), 1)
    sentence = np.repeat(np.arange(len(text)), pieces)
    place = np.arange(len(sentence)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = text.offsets[:-1][sentence] + place * longest
    return Sequences(text.tokens, np.append(starts, text.offsets[-1])), sentence


def _eligible(text: Sequences) -> np.ndarray:
    """Whether a sentence has words enough, and none that is unknown, bool (sentences,)."""
    if not len(text):
        return np.zeros(0, bool)
    unknown = np.concatenate([[0], np.cumsum(text.tokens == UNK)])
    return (text.lengths >= WORDS) & (np.diff(unknown[text.offsets]) == 0)


def _hashes(text: Sequences) -> np.ndarray:
    """64 bits of the words of each sentence that is `_eligible`, uint64."""
    with np.errstate(over="ignore"):
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mixed(text.tokens))])
        return np.diff(sums[text.offsets])[_eligible(text)]


def _mixed(tokens: np.ndarray) -> np.ndarray:
    """64 bits of each word id that look random (SplitMix64, Steele et al. 2014), uint64."""
    x = tokens.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
