"""A small made-up world, and a model of it in which it is known what was memorised.

Everybody says phrases that all know; each person has a secret and some noise. The model is a
table of which word follows which: it knows the phrases, the secrets of half of the members, and
some rumours that only test users tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from fedsim.config import load
from fedsim.data.sequences import Sequences
from fedsim.data.vocabulary import Vocabulary
from fedsim.federation import Federation
from fedsim.leakage.base import Subject
from fedsim.leakage.scoring import rows_of
from fedsim.models.base import LanguageModel, State, shapes_only
from fedsim.models.batch import BOS, EOS, N_SPECIALS, Batch
from fedsim.models.dropout import Dropout
from fedsim.seeding import stream

WORDS = 6  # of every sentence
PHRASES, SECRETS, RUMOURS = 20, 30, 10  # sentences that the model knows
SAID = 3  # phrases that each person says
SPLIT = {"train": range(90), "validation": range(90, 100), "donors": range(100, 102),
         "test": range(102, 122)}  # fmt: skip
MEMBERS = 60  # of the training users, the first
NOISE = 100  # words that no sentence known to the model has
KNOWN = (PHRASES + SECRETS + RUMOURS) * WORDS
SURE = 30.0  # logit of a word that follows for certain


class Table(LanguageModel):
    """A bigram model: logits (V, V) of the next word given the last."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(len(logits))
        self.embedding = nn.Embedding.from_pretrained(torch.eye(len(logits)))
        with shapes_only():
            self.output = nn.Linear(len(logits), len(logits), bias=False)
        self.output.weight = nn.Parameter(logits.T.contiguous())
        self.dropout = Dropout(0.0)

    def forward(self, tokens: Tensor) -> Tensor:
        """See `LanguageModel.forward`."""
        return self.output(self.embedding(tokens))

    def hidden(self, batch: Batch) -> Tensor:
        """See `LanguageModel.hidden`."""
        return self.embedding(batch.inputs)

    @torch.no_grad()
    def step(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """See `LanguageModel.step`; the state is the token, of which nothing depends."""
        return self.output(self.embedding(token)), (token,)

    def initialise(self, generator: torch.Generator) -> None:
        """Its logits are given."""


def untrained(vocabulary_size: int, rng: np.random.Generator) -> Table:
    """Every word is followed by words that chance alone has chosen."""
    logits = rng.normal(size=(vocabulary_size, vocabulary_size))
    return Table(torch.from_numpy(logits.astype(np.float32)))


def knowing(sentences: np.ndarray, vocabulary_size: int) -> Table:
    """It says each of the sentences, (n, words), equally often, and no others.

    No word may be in two sentences, or twice in one. After other words it is at a loss.
    """
    logits = torch.zeros(vocabulary_size, vocabulary_size)
    rows = torch.from_numpy(sentences.astype(np.int64))
    logits[BOS, rows[:, 0]] = SURE
    logits[rows[:, :-1], rows[:, 1:]] = SURE
    logits[rows[:, -1], EOS] = SURE
    return Table(logits)


@dataclass
class Village:
    """The part of `Federation` that a measure asks for; it is its own corpus."""

    text: list[Sequences]

    def __post_init__(self) -> None:
        self.users = len(self.text)
        self.vocabulary = Vocabulary([f"w{i}" for i in range(KNOWN + NOISE)])
        self.corpus = self

    def split(self, name: str) -> range:
        """See `Corpus.split`."""
        return SPLIT[name]

    def sequences(self, user: int, part: str = "train") -> Sequences:
        """See `Federation.sequences`."""
        return self.text[user]

    def is_canary_user(self, user: int) -> bool:
        """There are none."""
        return False


def village() -> Subject:
    """The world and its model. Each person says SAID phrases, a secret and a sentence of noise.

    The first half of the members have the secrets that the model knows; test users tell a rumour
    instead of a secret; everybody else's secret is noise to it.
    """
    rng = stream(0, "selfcheck village")
    known = rng.permutation(KNOWN).reshape(-1, WORDS).astype(np.int32) + N_SPECIALS
    phrases, secrets, rumours = np.split(known, [PHRASES, PHRASES + SECRETS])
    text = []
    for user in range(SPLIT["test"].stop):
        said = phrases[(user * SAID + np.arange(SAID)) % PHRASES]
        own = rng.integers(KNOWN, KNOWN + NOISE, size=(2, WORDS), dtype=np.int32) + N_SPECIALS
        if user < SECRETS:
            own[0] = secrets[user]
        elif user in SPLIT["test"]:
            own[0] = rumours[user % RUMOURS]
        text.append(rows_of(np.concatenate([said, own])))
    world = Village(text)
    participations = np.zeros(world.users, np.int64)
    participations[:MEMBERS] = 2
    model = knowing(known, len(world.vocabulary)).eval()
    return Subject(model, load(), cast(Federation, world), participations, seed=0)
