"""Who can take part: the corpus's training users, then the synthetic users that hold canaries."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from fedsim.config import ClientConfig
from fedsim.data.sequences import Sequences
from fedsim.data.store import Corpus, open_corpus, open_folder
from fedsim.errors import FedsimError
from fedsim.leakage.canaries import Planted, plant


class Federation:
    """Users by id: 0 .. corpus.users-1 are the corpus's own, canary users follow."""

    def __init__(self, corpus: Corpus, planted: Planted) -> None:
        self.corpus = corpus
        self.planted = planted

    @property
    def users(self) -> int:
        """Number of ids: the corpus's users and the canary users."""
        return self.corpus.users + self.planted.users

    @cached_property
    def population(self) -> np.ndarray:
        """Ids of the users that are sampled for training."""
        train = self.corpus.split("train")
        canary_users = np.arange(self.planted.users) + self.corpus.users
        return np.concatenate([np.arange(train.start, train.stop), canary_users])

    @cached_property
    def hosted(self) -> np.ndarray | None:
        """Whether each user's text is here, bool (users,); None where all are.

        Canary users go with the donors, whose sentences fill up their text.
        """
        corpus = self.corpus
        if corpus.shard is None:
            return None
        canary_users = np.full(self.planted.users, corpus.shard["donors"])
        return np.concatenate([corpus.hosted, canary_users])

    def is_canary_user(self, user: int) -> bool:
        """True for the synthetic users."""
        return user >= self.corpus.users

    def sequences(self, user: int, part: str = "train") -> Sequences:
        """One user's sentences; canary users have no held-out part."""
        if self.hosted is not None and not self.hosted[user]:
            raise FedsimError(f"User {user} is not hosted here: {self.corpus.folder} is a shard.")
        if self.is_canary_user(user):
            return self.planted.sequences(user - self.corpus.users)
        return self.corpus.sequences(user, part)

    def size(self, user: int) -> tuple[int, int]:
        """(sequences, target tokens) that a user trains on; the end of each counts."""
        if self.is_canary_user(user):
            mine = self.planted.sequences(user - self.corpus.users)
            return len(mine), len(mine.tokens) + len(mine)
        count = self.corpus.sentence_count(user)
        return count, self.corpus.token_count(user) + count

    def sizes(self, users: Iterable[int]) -> np.ndarray:
        """`size` of many users, shape (len(users), 2)."""
        return np.array([self.size(int(u)) for u in users], dtype=np.int64).reshape(-1, 2)


def open_federation(config: ClientConfig, shard: str = "") -> Federation:
    """The federation of a config, from what the corpus's files hold now.

    `shard` is this node's own corpus folder, instead of the one that the config names. Canary
    users are derived from the seed, so every process that opens the same corpus sees the same.
    """
    corpus = open_folder(Path(shard)) if shard else open_corpus(config.data)
    return Federation(corpus, plant(corpus, config.canaries, config.seed))
