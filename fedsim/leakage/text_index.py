"""An index of many users' text: which sentences hold some words, whose they are and how many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fedsim.data.sequences import Sequences, gather
from fedsim.leakage.texts import Texts

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no word's share of a hash is shifted out
_BLOCK = 1 << 21  # words of text looked through at a time: bounds memory to some 100 MB


@dataclass(frozen=True)
class Holdings:
    """The pairs of a query and a sentence that holds it, each pair once, by query.

    query, sentence, owner: int64 (pairs,); the owner is the user whose sentence it is. n: number
    of queries.
    """

    query: np.ndarray
    sentence: np.ndarray
    owner: np.ndarray
    n: int

    @property
    def repeats(self) -> np.ndarray:
        """Number of sentences that hold each query, int64 (n,)."""
        return np.bincount(self.query, minlength=self.n)

    @property
    def users(self) -> np.ndarray:
        """Number of different users with such a sentence, int64 (n,)."""
        return np.bincount(_distinct(self.query, self.owner)[0], minlength=self.n)

    def owners(self, query: int) -> np.ndarray:
        """The users of one query, ascending."""
        first, last = np.searchsorted(self.query, [query, query + 1])
        return np.unique(self.owner[first:last])

    def of(self, users: np.ndarray) -> Holdings:
        """Only the pairs in which query i is held by `users[i]`; users (n,)."""
        mine = self.owner == users[self.query]
        return Holdings(self.query[mine], self.sentence[mine], self.owner[mine], self.n)


class TextIndex:
    """Exact look-up of word ids in the sentences of many users.

    Hashes propose and words decide, so a pair found is a pair; one of 2^64 values of a hash might
    hide another.
    """

    def __init__(self, texts: Texts) -> None:
        self.texts = texts

    def find(self, queries: Sequences, whole: bool = False) -> Holdings:
        """The sentences that hold each query's words in a row, or `whole`: that are the query.

        A query without words is held by none.
        """
        keys = _hashes(queries)
        names, first, group = np.unique(keys, return_index=True, return_inverse=True)
        wanted = np.unique(queries.lengths[first])
        name, sentence, start = self._proposed(names, wanted[wanted > 0], whole)
        # From names to queries: equal queries share one.
        order = np.argsort(name, kind="stable")
        counts = np.bincount(name, minlength=len(names))
        times = counts[group]
        query = np.repeat(np.arange(len(queries)), times)
        pair = gather(order, (np.cumsum(counts) - counts)[group], times).tokens
        equal = self._equal(queries, query, start[pair])
        if whole:
            equal &= self.texts.sequences.lengths[sentence[pair]] == queries.lengths[query]
        query, sentence = _distinct(query[equal], sentence[pair[equal]])
        return Holdings(query, sentence, self.texts.users[sentence], len(queries))

    def _proposed(
        self, names: np.ndarray, lengths: np.ndarray, whole: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(name, sentence, first word) of every run of words whose hash is among `names`."""
        found = [(np.empty(0, np.int64),) * 3]
        for sentence, starts, stops in self._runs(whole):
            for _, rows, values in _running(self.texts.sequences.tokens, starts, stops, lengths):
                place = np.minimum(np.searchsorted(names, values), len(names) - 1)
                hit = np.flatnonzero(names[place] == values)
                found.append((place[hit], sentence[rows[hit]], starts[rows[hit]]))
        name, sentence, start = (np.concatenate(column) for column in zip(*found, strict=True))
        return name, sentence, start

    def _runs(self, whole: bool) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(sentence, first word, past the last word) of where a run may begin, block by block."""
        offsets = self.texts.sequences.offsets
        bounds = np.searchsorted(offsets, np.arange(0, offsets[-1] + _BLOCK, _BLOCK))
        for low, high in pairwise(bounds):
            sentence = np.arange(low, min(high, len(offsets) - 1))
            starts = offsets[sentence]
            if not whole:
                lengths = offsets[sentence + 1] - starts
                sentence = np.repeat(sentence, lengths)
                starts = np.arange(len(sentence)) + (starts[0] if len(starts) else 0)
            yield sentence, starts, offsets[sentence + 1]

    def _equal(self, queries: Sequences, query: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Whether each query's words stand in the text from `start` on, bool (pairs,)."""
        equal = np.ones(len(query), bool)
        lengths, tokens = queries.lengths[query], self.texts.sequences.tokens
        for place in range(int(lengths.max(initial=0))):
            rows = np.flatnonzero(lengths > place)
            asked = queries.tokens[queries.offsets[query[rows]] + place]
            inside = np.minimum(start[rows] + place, len(tokens) - 1)
            equal[rows] &= tokens[inside] == asked
        return equal


def _hashes(sequences: Sequences) -> np.ndarray:
    """One uint64 for each sequence, equal for equal ones; 0 for those without words."""
    out = np.zeros(len(sequences), np.uint64)
    starts, stops = sequences.offsets[:-1], sequences.offsets[1:]
    wanted = np.unique(sequences.lengths)
    for length, rows, values in _running(sequences.tokens, starts, stops, wanted[wanted > 0]):
        ends = starts[rows] + length == stops[rows]
        out[rows[ends]] = values[ends]
    return out


def _running(
    tokens: np.ndarray, starts: np.ndarray, stops: np.ndarray, wanted: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(length, rows, hashes) of the first `length` words from each start, for the wanted lengths.

    Rows are those whose words do not end before.
    """
    rows = np.arange(len(starts))
    values = np.zeros(len(starts), np.uint64)
    for length in range(1, int(wanted.max(initial=0)) + 1):
        fits = starts[rows] + length <= stops[rows]
        rows, values = rows[fits], values[fits]
        values = values * _BASE + _scattered(tokens[starts[rows] + length - 1])
        if length in wanted:
            yield length, rows, values


def _scattered(ids: np.ndarray) -> np.ndarray:
    """A uint64 far from its neighbours' for each id (the finaliser of SplitMix64)."""
    x = ids.astype(np.uint64) * _BASE + _BASE
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _distinct(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different pairs of two columns of ids, sorted by the first, then the second."""
    size = int(b.max(initial=0)) + 1
    first, second = np.divmod(np.unique(a * size + b), size)
    return first, second
