"""From sentences looked up in text to precision, what equal text of strangers holds, and counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from fedsim.leakage.base import NAN, Finding
from fedsim.leakage.discoverable import EIDETIC
from fedsim.leakage.intervals import CLOPPER_PEARSON, clopper_pearson, paired
from fedsim.leakage.text_index import Holdings

OF_PAIRS = f"{CLOPPER_PEARSON} of pairs"
PRECISION = "precision_at_100"
NO_CONTROL = "not resolvable: no user is left as a control"


@dataclass(frozen=True)
class Found:
    """Where n generated sentences are, whole.

    trained: in all that the model was trained on. equal: in the text of some members, and in as
    many sentences of people that the model never saw; None without such people.
    """

    trained: Holdings
    equal: tuple[Holdings, Holdings] | None
    members: np.ndarray  # real users that took part


def findings(found: Found, tops: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    """Of all sentences, then of the first ranked by each score: `tops`, indices by its name."""
    everything = np.arange(found.trained.n)
    yield from _shares(found, everything, "found_share", "")
    for most in EIDETIC:
        yield from _eidetic(found, most)
    yield _exposed(found, everything, "")
    for name, top in tops.items():
        yield from _shares(found, top, PRECISION, f"score={name}")
        yield _exposed(found, top, f"score={name}")


def hits(holdings: Holdings, chosen: np.ndarray) -> np.ndarray:
    """Whether somebody's text holds each of the chosen sentences, bool."""
    return holdings.repeats[chosen] > 0


def _shares(found: Found, chosen: np.ndarray, quantity: str, group: str) -> Iterator[Finding]:
    """The share found in the trained text, in equal text, and beyond what strangers hold."""
    n = len(chosen)
    yield _share(quantity, group, hits(found.trained, chosen))
    group = f"{group} equal text".strip()
    if found.equal is None:
        yield Finding("beyond_predictable", NAN, group, n, note=NO_CONTROL)
        return
    mine, theirs = (hits(holdings, chosen) for holdings in found.equal)
    yield _share(quantity, group, mine, float(theirs.mean()))
    estimate = float(mine.mean() - theirs.mean())
    low, high = paired(int((mine & ~theirs).sum()), int((theirs & ~mine).sum()), n)
    yield Finding("beyond_predictable", estimate, group, n, low, high, OF_PAIRS)


def _share(quantity: str, group: str, found: np.ndarray, control: float = NAN) -> Finding:
    low, high = clopper_pearson(int(found.sum()), len(found))
    share = float(found.mean())
    return Finding(quantity, share, group, len(found), low, high, CLOPPER_PEARSON, control)


def _eidetic(found: Found, most: int) -> Iterator[Finding]:
    """How many sentences at most so many users hold: in the trained text, and in equal text."""
    n = found.trained.n
    group = f"users<={most}"
    yield _count("eidetic_sentences", group, few(found.trained, most), n)
    if found.equal is not None:
        mine, theirs = (few(holdings, most) for holdings in found.equal)
        yield _count("eidetic_sentences", f"{group} equal text", mine, n, float(theirs))


def few(holdings: Holdings, most: int) -> int:
    """Number of sentences that somebody holds, but at most `most` users."""
    return int(((holdings.users > 0) & (holdings.users <= most)).sum())


def _exposed(found: Found, chosen: np.ndarray, group: str) -> Finding:
    """How many members hold one of the chosen sentences, alone."""
    users = len(np.intersect1d(exposed(found.trained, chosen), found.members))
    return _count("users_exposed", f"{group} users<=1".strip(), users, len(found.members))


def exposed(holdings: Holdings, chosen: np.ndarray) -> np.ndarray:
    """The users that hold one of the chosen sentences, and nobody else does."""
    alone = chosen[holdings.users[chosen] == 1]
    return np.unique(holdings.owner[np.isin(holdings.query, alone)])


def _count(quantity: str, group: str, count: int, n: int, control: float = NAN) -> Finding:
    low, high = (end * n for end in clopper_pearson(count, n))
    return Finding(quantity, count, group, n, low, high, CLOPPER_PEARSON, control)
