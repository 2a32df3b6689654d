"""The table of sentences that came out of a model: their words, and whose they are."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fedsim.data.sequences import Sequences
from fedsim.federation import Federation
from fedsim.leakage.text_index import Holdings


def disclosed(
    sentences: Sequences, held: Holdings, chosen: np.ndarray, federation: Federation
) -> pd.DataFrame:
    """One row for each sentence at `chosen`; `held` is where the sentences are in trained text.

    words, ids, holders: joined by spaces. users and repeats: how many hold it, and in how many
    sentences. only_canary_users: no user of the corpus holds it, synthetic ones do.
    """
    vocabulary = federation.corpus.vocabulary
    shown = sentences.take(chosen)
    holders = [held.owners(int(i)) for i in chosen]
    return pd.DataFrame(
        {
            "words": [vocabulary.decode(sentence) for sentence in shown],
            "ids": [" ".join(map(str, sentence)) for sentence in shown],
            "users": held.users[chosen],
            "repeats": held.repeats[chosen],
            "holders": [" ".join(map(str, users)) for users in holders],
            "only_canary_users": [
                bool(len(users)) and federation.is_canary_user(int(users[0])) for users in holders
            ],
        }
    )
