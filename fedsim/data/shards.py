"""Cut a corpus into shards: what each machine of a deployment holds, and no more.

A shard is a corpus folder with all users' places and one part of their text, so user ids mean the
same on every machine. Users are dealt out in turn; the donors all go to the first shard, which so
can make the canary users' text from its own. The folder `server` holds no sentences. All hold the
vocabulary, and with it what rare words it has.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedsim.data.sequences import Sequences
from fedsim.data.storage import CorpusWriter, drafted
from fedsim.data.store import Corpus
from fedsim.data.vocabulary import SPECIALS
from fedsim.errors import FedsimError
from fedsim.paths import check_new

SERVER = "server"
_BLOCK_USERS = 5000


def shard_name(number: int) -> str:
    """The folder of a node's shard."""
    return f"node-{number}"


def hosts(corpus: Corpus, nodes: int) -> np.ndarray:
    """The shard of each user, int64 (users,)."""
    out = np.arange(corpus.users) % nodes
    donors = corpus.split("donors")
    out[donors.start : donors.stop] = 0
    return out


def disclosure(corpus: Corpus) -> str:
    """What every shard tells about users of others, as a sentence; empty for nothing."""
    rare = words_of_one_user(corpus)
    if not rare:
        return ""
    return (
        f"the vocabulary, which every shard holds, has {rare:,} words that one person only typed; "
        "data.word_users=2 leaves them out"
    )


def words_of_one_user(corpus: Corpus) -> int:
    """How many words of the vocabulary only one user typed."""
    users = np.zeros(len(corpus.vocabulary), np.int64)
    for user in range(corpus.users):
        users[np.unique(corpus.sequences(user, "all").tokens)] += 1
    return int(np.count_nonzero(users[len(SPECIALS) :] == 1))


def write_shards(corpus: Corpus, folder: Path, nodes: int) -> list[Path]:
    """Write `node-0` .. and `server` into the new `folder`; returns the nodes' folders.

    Raises FedsimError where the folder exists, or there are fewer users than nodes.
    """
    if corpus.shard is not None:
        raise FedsimError(f"{corpus.folder} is a shard itself; cut the whole corpus.")
    if not 1 <= nodes <= corpus.users:
        raise FedsimError(f"{corpus.users} users cannot be spread over {nodes} nodes.")
    check_new(folder)
    if folder.exists():
        raise FedsimError(f"{folder} exists; choose another folder.")
    where = hosts(corpus, nodes)
    try:
        with drafted(folder) as draft:
            for number in range(nodes):
                _write(corpus, draft / shard_name(number), where == number, number == 0)
            _write(corpus, draft / SERVER, np.zeros(corpus.users, bool), False)
            draft.rename(folder)
    except OSError as error:
        raise FedsimError(f"Cannot write the shards to {folder} ({error.strerror}).") from None
    return [folder / shard_name(number) for number in range(nodes)]


def _write(corpus: Corpus, folder: Path, hosted: np.ndarray, donors: bool) -> None:
    folder.mkdir(0o700)  # wherever it is copied, it is for its owner
    writer = CorpusWriter(folder)
    try:
        for first in range(0, corpus.users, _BLOCK_USERS):
            users = range(first, min(first + _BLOCK_USERS, corpus.users))
            here = [user for user in users if hosted[user]]
            text = Sequences.concatenate([corpus.sequences(user, "all") for user in here])
            counts = [corpus.sentence_count(u, "all") * bool(hosted[u]) for u in users]
            heldout = [corpus.sentence_count(u, "heldout") * bool(hosted[u]) for u in users]
            names = [corpus.user_name(u) if hosted[u] else "" for u in users]
            writer.add(text.tokens, text.lengths, np.array(counts), np.array(heldout), names)
        about = {key: getattr(corpus, key) for key in ("name", "title", "licence", "citation")}
        about |= {"homepage": corpus.homepage, "split": corpus.split_sizes}
        if corpus.vocabulary_release:
            about["vocabulary_release"] = corpus.vocabulary_release
        about["shard"] = {"corpus": corpus.digest, "donors": donors}
        writer.finish(corpus.vocabulary, about)
    finally:
        writer.close()
