"""Who can take part: the corpus's training users, users that hold canaries, users of an audit.

With their own text each, or with everybody's sentences dealt out at random to the same sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from fedsim.config import ClientConfig
from fedsim.data.sequences import Sequences, offsets_of
from fedsim.data.store import Corpus, open_corpus, open_folder
from fedsim.errors import FedsimError
from fedsim.leakage.canaries import Canary, Planted, plant
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

        Synthetic users go with the donors, of whose word pairs the text of canary users is made.
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

    def owners(self, canary: Canary) -> np.ndarray:
        """Ids of those who train on the canary, one for each copy that is there."""
        return np.repeat(np.array(canary.holders, np.int64), canary.repeats) + self.corpus.users

    def holder_participations(self, participations: np.ndarray) -> np.ndarray:
        """Rounds in which who has a copy of each canary took part, int64 (canaries,): from
        participations (users,)."""
        owners = [np.unique(self.owners(canary)) for canary in self.planted.canaries]
        return np.array([participations[ids].sum() for ids in owners], np.int64)

    def sequences(self, user: int, part: str = "train") -> Sequences:
        """One user's sentences; synthetic users have no held-out part."""
        if self.hosted is not None and not self.hosted[user]:
            raise FedsimError(f"User {user} is not hosted here: {self.corpus.folder} is a shard.")
        if user >= self.corpus.users:
            return self._synthetic(user)
        return self.corpus.sequences(user, part)

    def _synthetic(self, user: int) -> Sequences:
        if self.audited(user) is not None:
            return self.audit.sequences()
        return self.planted.sequences(user - self.corpus.users)

    def pooled(self) -> Sequences:
        """All sentences that the population trains on, copied."""
        return Sequences.concatenate([self.sequences(int(user)) for user in self.population])

    def sizes(self, users: Sequence[int] | np.ndarray, part: str = "train") -> np.ndarray:
        """(sequences, target tokens) of many users, int64 (len(users), 2); the end of each
        sequence counts as a token."""
        ids = np.asarray(users, np.int64)
        out = np.empty((len(ids), 2), np.int64)
        real = ids < self.corpus.users
        out[real] = self.corpus.sizes(ids[real], part)
        texts = [self._synthetic(int(u)) for u in ids[~real]]
        out[~real] = np.array([(len(t), len(t.tokens)) for t in texts]).reshape(-1, 2)
        out[:, 1] += out[:, 0]
        return out


class DealtOut(Federation):
    """The same training sentences, those with canaries included, dealt out at random (IID).

    Each id has as many sentences as it has by user, so that nothing but the grouping changes.
    There are no canary users any more; the held-out parts stay those of the people.
    """

    def __init__(self, corpus: Corpus, planted: Planted, seed: int) -> None:
        if corpus.shard is not None:
            raise FedsimError(
                f"{corpus.folder} is a shard, and federation.partition = 'iid' deals out "
                "everybody's text; set federation.partition=user."
            )
        super().__init__(corpus, planted)
        self._seed = seed

    def is_canary_user(self, user: int) -> bool:
        """Nobody is one."""
        return False

    def owners(self, canary: Canary) -> np.ndarray:
        """See `Federation.owners`; one id may have several copies."""
        starts = offsets_of(np.array([len(text) for text in self.planted.texts], np.int64))
        # A holder's copies are the first sentences of its text.
        rows = [starts[h] + np.arange(canary.repeats) for h in canary.holders]
        return self._dealt_to[np.concatenate(rows)] if rows else np.empty(0, np.int64)

    def sequences(self, user: int, part: str = "train") -> Sequences:
        """What was dealt to the id; the other parts are the person's own."""
        place = self._place(user)
        if part != "train" or place is None:
            return super().sequences(user, part)
        rows, brought = self._rows(place), len(self._text)
        own = self._text.take(rows[rows < brought])
        return Sequences.concatenate([own, self._brought.take(rows[rows >= brought] - brought)])

    def sizes(self, users: Sequence[int] | np.ndarray, part: str = "train") -> np.ndarray:
        """See `Federation.sizes`."""
        out = super().sizes(users, part)
        if part == "train":
            for row, user in zip(out, users, strict=True):
                place = self._place(int(user))
                if place is not None:
                    row[1] = self._lengths[self._rows(place)].sum() + row[0]
        return out

    def _place(self, user: int) -> int | None:
        """In `population`; None for who is not dealt to."""
        train = len(self.corpus.split("train"))  # whose ids come first
        if user < train:
            return user
        return user - self.corpus.users + train if user >= self.corpus.users else None

    def _rows(self, place: int) -> np.ndarray:
        return self._deal[self._first[place] : self._first[place + 1]].astype(np.int64)

    @cached_property
    def _text(self) -> Sequences:
        """All sentences of the training users, the held-out ones too; a view of the file."""
        return self.corpus.split_sequences("train")

    @cached_property
    def _brought(self) -> Sequences:
        """The texts of all canary users, one after another."""
        return Sequences.concatenate(self.planted.texts)

    @cached_property
    def _lengths(self) -> np.ndarray:
        """Words of each sentence of `_text`, then of `_brought`."""
        lengths = np.concatenate([self._text.lengths, self._brought.lengths])
        return lengths.astype(np.min_scalar_type(int(lengths.max(initial=0))))

    @cached_property
    def _first(self) -> np.ndarray:
        """Where each user's sentences begin in the deal, by place in `population`, (n + 1,)."""
        return offsets_of(super().sizes(self.population)[:, 0])

    @cached_property
    def _deal(self) -> np.ndarray:
        """The sentences as they are dealt: places in `_text`, then in `_brought`; 4 bytes each."""
        train = np.arange(len(self.corpus.split("train")))
        kept, written = (self.corpus.sizes(train, part)[:, 0] for part in ("train", "all"))
        before = offsets_of(written - kept)[:-1]  # held-out sentences of the users before
        rows = np.arange(kept.sum()) + np.repeat(before, kept)
        brought = len(self._text) + np.arange(len(self._brought))
        deal = np.concatenate([rows, brought])
        deal = deal.astype(np.min_scalar_type(len(self._text) + len(self._brought)))
        stream(self._seed, "iid partition").shuffle(deal)
        return deal

    @cached_property
    def _dealt_to(self) -> np.ndarray:
        """The id that got each sentence of `_brought`."""
        out = np.empty(len(self._brought), np.int64)
        places = np.flatnonzero(self._deal >= len(self._text))
        users = np.searchsorted(self._first, places, side="right") - 1
        out[self._deal[places].astype(np.int64) - len(self._text)] = self.population[users]
        return out


def open_federation(config: ClientConfig, shard: str = "") -> Federation:
    """The federation of a config, from what the corpus's files hold now.

    `shard` is this node's own corpus folder, instead of the one that the config names. Canary
    users and the deal of `federation.partition` = "iid" are derived from the seed, so every
    process that opens the same corpus sees the same.
    """
    corpus = open_folder(Path(shard)) if shard else open_corpus(config.data)
    planted = plant(corpus, config.canaries, config.seed, config.audit.set_apart)
    if config.federation.partition == "iid":
        return DealtOut(corpus, planted, config.seed)
    apart = _set_apart(corpus, config.audit.set_apart, config.seed)
    audit = UpdateCanaries(config.audit.update_canaries, config.seed)
    return Federation(corpus, planted, apart, audit)


def _set_apart(corpus: Corpus, count: int, seed: int) -> np.ndarray:
    """Ids of `count` training users drawn from the seed, ascending."""
    train = corpus.split("train")
    if count >= len(train) > 0:
        raise FedsimError(
            f"audit.set_apart = {count} leaves nobody of the {len(train)} training users; lower it."
        )
    chosen = stream(seed, "set apart").choice(len(train), count, replace=False)
    return np.sort(chosen) + train.start
