"""Users are split by person: contiguous ranges train, validation, donors, test."""

from __future__ import annotations

import numpy as np

from fedsim.data.recipes import Split
from fedsim.errors import FedsimError
from fedsim.seeding import stream

PARTS = ("train", "validation", "donors", "test")
_SURE_HELDOUT = 5  # from this many sentences on, at least one is held out


def split_sizes(users: int, split: Split, name: str) -> dict[str, int]:
    """Number of users in each part; a part with a share above 0 has at least one user."""
    sizes = {}
    for part in PARTS[1:]:
        share = getattr(split, part)
        sizes[part] = max(1, round(share * users)) if share else 0
    train = users - sum(sizes.values())
    if train < 1:
        raise FedsimError(
            f"The data set '{name}' leaves {users} user(s) with enough words, too few to split "
            "by person: give more text or lower data.min_words."
        )
    return {"train": train, **sizes}


def split_order(users: int, split: Split) -> np.ndarray:
    """A permutation of the users, int64 (users,), drawn from the recipe's seed alone."""
    return stream(split.seed, "split").permutation(users)


def heldout_counts(sentences: np.ndarray, share: float) -> np.ndarray:
    """How many of each training user's last sentences are held out; int64, like `sentences`."""
    counts = np.floor(sentences * share).astype(np.int64)
    sure = (sentences >= _SURE_HELDOUT) & (share > 0)
    return np.where(sure, np.maximum(counts, 1), counts)
