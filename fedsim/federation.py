"""Who can take part: the corpus's training users, users that hold canaries, users of an audit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from fedsim.config import ClientConfig
from fedsim.data.sequences import Sequences
from fedsim.data.store import Corpus, open_corpus, open_folder
from fedsim.errors import FedsimError
from fedsim.leakage.canaries import Planted, plant
from fedsim.leakage.update_canaries import UpdateCanaries
from fedsim.seeding import stream


class Federation:
    """Users by id: 0 .. corpus.users-1 are the corpus's own, canary users follow, then those of
    an audit."""

    def __init__(
        self,
        corpus: Corpus,
        planted: Planted,
        set_apart: np.ndarray | None = None,
        audit: UpdateCanaries | None = None,
    ) -> None:
        """`set_apart`: ids of training users that never take part."""
        self.corpus = corpus
        self.planted = planted
        self.set_apart = np.empty(0, np.int64) if set_apart is None else set_apart
        self.audit = audit or UpdateCanaries(0, 0)

    @property
    def users(self) -> int:
        """Number of ids: the corpus's users and the synthetic ones."""
        return self.corpus.users + self.planted.users + self.audit.users

    @property
    def audit_users(self) -> np.ndarray:
        """Their ids, by the canary's index."""
        return np.arange(self.users - self.audit.users, self.users)

    @cached_property
    def population(self) -> np.ndarray:
        """Ids of the users that are sampled for training."""
        train = self.corpus.split("train")
        real = np.setdiff1d(np.arange(train.start, train.stop), self.set_apart, assume_unique=True)
        return np.concatenate([real, np.arange(self.corpus.users, self.users)])

    def present(self, cohort: np.ndarray) -> np.ndarray:
        """Those of a cohort that are there: audit users are, if their coin says so."""
        return np.setdiff1d(cohort, self.audit_users[~self.audit.included])

    def scored(self, split: str, most: int, seed: int) -> np.ndarray:
        """The held-out users of a split that are scored, ascending: all of them, or `most` drawn
        from the seed where there are more, the same in every round and for every model."""
        users = self.corpus.split(split)
        if len(users) <= most:
            return np.arange(users.start, users.stop)
        drawn = stream(seed, f"scored {split}").choice(len(users), most, replace=False)
        return np.sort(drawn) + users.start

    @cached_property
    def hosted(self) -> np.ndarray | None:
        """Whether each user's text is here, bool (users,); None where all are.

        Synthetic users go with the donors, whose sentences fill up the text of canary users.
        """
        corpus = self.corpus
        if corpus.shard is None:
            return None
        synthetic = np.full(self.users - corpus.users, corpus.shard["donors"])
        return np.concatenate([corpus.hosted, synthetic])

    def is_canary_user(self, user: int) -> bool:
        """True for the synthetic users."""
        return user >= self.corpus.users

    def audited(self, user: int) -> int | None:
        """The index of an audit user's canary; None for anybody else."""
        index = user - (self.users - self.audit.users)
        return index if index >= 0 else None

    def sequences(self, user: int, part: str = "train") -> Sequences:
        """One user's sentences; synthetic users have no held-out part."""
        if self.hosted is not None and not self.hosted[user]:
            raise FedsimError(f"User {user} is not hosted here: {self.corpus.folder} is a shard.")
        if self.audited(user) is not None:
            return self.audit.sequences()
        if self.is_canary_user(user):
            return self.planted.sequences(user - self.corpus.users)
        return self.corpus.sequences(user, part)

    def sizes(self, users: Sequence[int] | np.ndarray, part: str = "train") -> np.ndarray:
        """(sequences, target tokens) of many users, int64 (len(users), 2); the end of each
        sequence counts as a token."""
        ids = np.asarray(users, np.int64)
        out = np.empty((len(ids), 2), np.int64)
        real = ids < self.corpus.users
        out[real] = self.corpus.sizes(ids[real], part)
        texts = [self.sequences(int(u)) for u in ids[~real]]
        out[~real] = np.array([(len(t), len(t.tokens)) for t in texts]).reshape(-1, 2)
        out[:, 1] += out[:, 0]
        return out


def open_federation(config: ClientConfig, shard: str = "") -> Federation:
    """The federation of a config, from what the corpus's files hold now.

    `shard` is this node's own corpus folder, instead of the one that the config names. Canary
    users are derived from the seed, so every process that opens the same corpus sees the same.
    """
    corpus = open_folder(Path(shard)) if shard else open_corpus(config.data)
    apart = _set_apart(corpus, config.audit.set_apart, config.seed)
    audit = UpdateCanaries(config.audit.update_canaries, config.seed)
    return Federation(corpus, plant(corpus, config.canaries, config.seed), apart, audit)


def _set_apart(corpus: Corpus, count: int, seed: int) -> np.ndarray:
    """Ids of `count` training users drawn from the seed, ascending."""
    train = corpus.split("train")
    if count >= len(train) > 0:
        raise FedsimError(
            f"audit.set_apart = {count} leaves nobody of the {len(train)} training users; lower it."
        )
    chosen = stream(seed, "set apart").choice(len(train), count, replace=False)
    return np.sort(chosen) + train.start
