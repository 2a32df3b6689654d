"""Users are split by person: contiguous ranges train, validation, donors, test."""

from __future__ import annotations

from itertools import count

import numpy as np

from fedsim.data.recipes import Split
from fedsim.errors import FedsimError
from fedsim.seeding import stream

PARTS = ("train", "validation", "donors", "test")
_SURE_HELDOUT = 5  # from this many sentences on, at least one is held out


def split_sizes(users: int, split: Split, name: str, read: int) -> dict[str, int]:
    """Number of users in each part; a part with a share above 0 has at least one user.

    read: how many there are with those of too few words; it decides which advice helps.
    """
    sizes = _parts(users, split)
    if sum(sizes.values()) < users:
        return {"train": users - sum(sizes.values()), **sizes}
    needed = next(n for n in count(1) if sum(_parts(n, split).values()) < n)
    cure = (
        "give more text or lower data.min_words."
        if read >= needed
        else f"give text of at least {needed} people."
    )
    raise FedsimError(
        f"The data set '{name}' leaves {users} user(s) with enough words (of {read} read), too few "
        f"to split by person: {cure}"
    )


def _parts(users: int, split: Split) -> dict[str, int]:
    """The sizes of all parts but train."""
    shares = {part: getattr(split, part) for part in PARTS[1:]}
    return {part: max(1, round(share * users)) if share else 0 for part, share in shares.items()}


def split_order(users: int, split: Split) -> np.ndarray:
    """A permutation of the users, int64 (users,), drawn from the recipe's seed alone."""
    return stream(split.seed, "split").permutation(users)


def heldout_counts(sentences: np.ndarray, share: float) -> np.ndarray:
    """How many of each training user's last sentences are held out; int64, like `sentences`."""
    counts = np.floor(sentences * share).astype(np.int64)
    sure = (sentences >= _SURE_HELDOUT) & (share > 0)
    return np.where(sure, np.maximum(counts, 1), counts)
