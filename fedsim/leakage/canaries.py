"""Canaries: random sentences planted through synthetic users.

Carlini et al. 2019 (The Secret Sharer), in the federated form of Ramaswamy et al. 2020 and
Thakkar et al. 2020: a canary is held by `users` synthetic users with `repeats` copies each. The
rest of such a user's text is synthetic too, drawn from the word pairs of people whom nothing else
uses, the donors. Real users stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sized
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fedsim.data.sequences import Sequences, offsets_of
from fedsim.data.vocabulary import SPECIALS
from fedsim.errors import FedsimError
from fedsim.leakage.synthetic_text import Chain
from fedsim.sections import CanaryOptions
from fedsim.seeding import stream

WORDS = 5
N_SPECIALS = len(SPECIALS)  # this module is also read by reports, which need no torch
MOST_DONORS = 1000  # more people's text would take time to read and change little


@dataclass(frozen=True)
class Canary:
    """One canary. `users == 0` marks a control that nobody holds."""

    index: int
    words: tuple[int, ...]
    users: int
    repeats: int
    holders: tuple[int, ...]  # positions among the canary users


@dataclass(frozen=True)
class Planted:
    """All canaries of a run, the texts of their holders, and the references to rank among."""

    canaries: tuple[Canary, ...]
    references: np.ndarray  # (references, WORDS) word ids
    texts: tuple[Sequences, ...]  # one for each canary user
    left_out: int = 0  # canaries that were asked for and would have been too many

    @property
    def users(self) -> int:
        """Number of synthetic users."""
        return len(self.texts)

    def sequences(self, index: int) -> Sequences:
        """The sentences of the canary user at `index`."""
        return self.texts[index]


class Ground(Protocol):
    """What canaries are planted in: a corpus, as far as they need one."""

    def split(self, name: str) -> range:
        """The users of a split."""

    @property
    def vocabulary(self) -> Sized:
        """All tokens, special ones included."""

    def sequences(self, user: int, part: str) -> Sequences:
        """The sentences of a user."""


def random_sentences(
    count: int, vocabulary_size: int, rng: np.random.Generator, specials: int = N_SPECIALS
) -> np.ndarray:
    """(count, WORDS) word ids, each word uniform over the words that are not special."""
    return rng.integers(specials, vocabulary_size, size=(count, WORDS), dtype=np.int32)


def drawn(
    options: CanaryOptions, vocabulary_size: int, seed: int, specials: int = N_SPECIALS
) -> np.ndarray:
    """(canaries, WORDS): the planted ones, controls and references, in this order.

    specials: how many ids are not words; an older run's vocabulary has fewer.
    """
    cells = len(options.users) * len(options.repeats) * options.per_cell
    wanted = cells + options.held_out + options.references
    return _distinct(wanted, vocabulary_size, stream(seed, "canaries"), specials)


def donors(corpus: Ground) -> range:
    """The users from whose word pairs the text of canary users is made up; nothing else of a run
    uses them."""
    return corpus.split("donors")[:MOST_DONORS]


def cells_of(options: CanaryOptions, people: int) -> list[tuple[int, int]]:
    """(users, copies) of each canary that is planted among so many people who train.

    Where `max_share` does not hold all that are asked for, every cell has as many canaries as
    there is room for; where not even one, the cells with the most users are left out, then those
    with the fewest copies.
    """
    most = math.inf
    if options.max_share < 1:  # canary users are part of what they are a share of
        most = int(options.max_share / (1 - options.max_share) * people + 1e-9)
    grid = [(u, r) for u in options.users for r in options.repeats]
    kept = sorted(range(len(grid)), key=lambda cell: (grid[cell][0], -grid[cell][1]))
    while kept and sum(grid[cell][0] for cell in kept) > most:
        few, many = grid[kept[0]][0], grid[kept[-1]][0]
        kept = [c for c in kept if grid[c][0] < many] if few < many else kept[:-1]
    room = most // sum(grid[cell][0] for cell in kept) if kept else 0
    return [grid[cell] for cell in sorted(kept)] * int(min(options.per_cell, room))


def plant(corpus: Ground, options: CanaryOptions, seed: int, apart: int = 0) -> Planted:
    """Draw the canaries of a run and write the texts of their holders.

    Canaries, controls and references come from the same generator and are all different, and
    which sentence is whose does not depend on how many canaries there is room for. apart: how
    many users of the training split do not train.
    """
    if options.name == "none":
        return Planted((), np.empty((0, WORDS), np.int32), ())
    cells = cells_of(options, len(corpus.split("train")) - apart)
    asked = len(options.users) * len(options.repeats) * options.per_cell
    sentences = drawn(options, len(corpus.vocabulary), seed)
    canaries: list[Canary] = []
    copies: list[Sequences] = []  # of each holder's canary
    for index, (users, repeats) in enumerate(cells):
        holders = tuple(range(len(copies), len(copies) + users))
        words = tuple(int(w) for w in sentences[index])
        canaries.append(Canary(index, words, users, repeats, holders))
        copies += [_copies(sentences[index], repeats, options.sentences)] * users
    for words in sentences[asked : asked + options.held_out]:
        canaries.append(Canary(len(canaries), tuple(int(w) for w in words), 0, 0, ()))
    texts = tuple(_filled(copies, corpus, options.sentences, seed))
    references = sentences[asked + options.held_out :]
    return Planted(tuple(canaries), references, texts, asked - len(cells))


def _distinct(
    count: int, vocabulary_size: int, rng: np.random.Generator, specials: int
) -> np.ndarray:
    """`count` different random sentences, in the order drawn (sorting them would bias a cut)."""
    if (vocabulary_size - specials) ** WORDS < 100 * count:
        raise FedsimError(
            f"A vocabulary of {vocabulary_size} is too small for {count} different canaries and "
            "references; set canaries=none or, if the text has more words, raise data.vocabulary."
        )
    seen: dict[tuple[int, ...], None] = {}
    while len(seen) < count:
        for row in random_sentences(count, vocabulary_size, rng, specials):
            seen.setdefault(tuple(int(w) for w in row), None)
    return np.array(list(seen)[:count], dtype=np.int32)


def _copies(canary: np.ndarray, repeats: int, total: int) -> Sequences:
    if repeats > total:
        raise FedsimError(
            f"canaries.repeats holds {repeats} but canaries.sentences is {total}; raise the latter."
        )
    lengths = np.full(repeats, len(canary))
    return Sequences(np.tile(canary, repeats).astype(np.int32), offsets_of(lengths))


def _filled(copies: list[Sequences], corpus: Ground, total: int, seed: int) -> list[Sequences]:
    """Each holder's copies, and synthetic sentences up to `total`.

    In a shard without the donors the texts stay unfinished: it does not host the holders.
    """
    given = [corpus.sequences(user, "all") for user in donors(corpus)] if copies else []
    if not sum(map(len, given)):
        return copies
    wanted = [total - len(mine) for mine in copies]
    draws = [stream(seed, "canary-filler", user=holder) for holder in range(len(copies))]
    made = Chain(Sequences.concatenate(given)).texts(wanted, draws)
    return [Sequences.concatenate(both) for both in zip(copies, made, strict=True)]
