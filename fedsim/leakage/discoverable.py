"""From trials of discoverable extraction to rates, what is beyond the predictable, and counts.

A table of trials has one row a sentence and prefix: group (MEMBERS or the control's name), prefix,
user (its writer), extracted, trigram (whether the trigram gives it too), users and repeats (those
who hold prefix and suffix in a row, and in how many sentences), opening (the word ids of both, as
bytes of int32). A control's users and repeats are counted as if its writer had been trained on:
else nothing that a member alone typed would have a counterpart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from fedsim.leakage.base import NAN, Finding
from fedsim.leakage.intervals import (
    CLOPPER_PEARSON,
    NEWCOMBE,
    WILSON,
    bootstrap_over,
    clopper_pearson,
    newcombe,
    over_users,
    paired,
    wider_of,
    wilson,
)

MEMBERS = "members"
STRATA = {  # of a sentence: by how many users hold it, and how often it was trained on
    "users": {"1": (1, 1), "2-4": (2, 4), "5+": (5, np.inf)},
    "repeats": {"1": (1, 1), "2-4": (2, 4), "5-9": (5, 9), "10+": (10, np.inf)},
}
# One person's sentences are one cluster; but a bootstrap of hardly any hits is too sure of itself,
# and with none it is sure of zero. So every interval is the hull of both.
BOOTSTRAP = bootstrap_over("users")
EIDETIC = (1, 2, 5)  # users that hold a sentence, at most


def findings(
    where: str, groups: Mapping[str, pd.DataFrame], with_trigram: bool, rng: np.random.Generator
) -> Iterator[Finding]:
    """All figures of one prefix length; `where` names it. The best control comes first.

    groups: the trials of the members under MEMBERS, then those of each control.
    """
    members = groups[MEMBERS]
    controls = {name: trials for name, trials in groups.items() if name != MEMBERS}
    if members.empty:
        note = "not resolvable: no member's sentence is long enough"
        yield Finding("extraction_rate", NAN, where, note=note)
        return
    control = next(iter(controls.values()), members[:0])
    named = next(iter(controls), "")
    yield _rate(where, members, rng, control)
    yield _beyond(where, members, control, rng, f"members minus {named}")
    for name, trials in controls.items():
        yield _rate(f"{where} of={name}", trials, rng)
    if with_trigram:
        said = members.assign(extracted=members.trigram)
        yield _rate(f"{where} by=trigram", said, rng)
        yield _beyond_trigram(f"{where} by=trigram", members, rng)
    for column, bands in STRATA.items():
        for band, (low, high) in bands.items():
            mine = members[members[column].between(low, high)]
            theirs = control[control[column].between(low, high)]
            yield _rate(f"{where} {column}={band}", mine, rng, theirs)
            if column == "users":
                note = f"members minus {named} whose sentence as many users hold"
                yield _beyond(f"{where} {column}={band}", mine, theirs, rng, note)
    for most in EIDETIC:
        few, others = (t[t.users <= most] for t in (members, control))
        yield from _counts(f"{where} users<={most}", few, others, rng)


def _rate(
    group: str,
    trials: pd.DataFrame,
    rng: np.random.Generator,
    control: pd.DataFrame | None = None,
) -> Finding:
    """The share extracted; whole users are drawn anew for its interval."""
    hits, n = _hits(trials), len(trials)
    other = NAN if control is None else share(control)
    if not n:
        return Finding("extraction_rate", NAN, group, control=other, note="no such sentence")
    low, high = _wider(_drawn(trials, rng), wilson(hits, n))
    named = wider_of(WILSON, BOOTSTRAP)
    return Finding("extraction_rate", share(trials), group, n, low, high, named, other)


def share(trials: pd.DataFrame) -> float:
    """The share extracted; NaN of none."""
    return float(trials.extracted.mean()) if len(trials) else NAN


def _beyond(
    group: str, members: pd.DataFrame, control: pd.DataFrame, rng: np.random.Generator, note: str
) -> Finding:
    """The members' rate minus the control's; whole users are drawn anew for its interval."""
    quantity, n = "beyond_predictable", len(members)
    if not n or control.empty:
        return Finding(quantity, NAN, group, n, note="not resolvable: no sentence to compare with")
    estimate = share(members) - share(control)
    totals = pd.concat([_by_user(members, True), _by_user(control, False)], ignore_index=True)
    hits, tries = totals["sum"].to_numpy(), totals["count"].to_numpy()
    member = totals.member.to_numpy()

    def difference(rows: np.ndarray) -> float:
        mine = rows[member[rows]]
        theirs = rows[~member[rows]]
        if not len(mine) or not len(theirs):
            return NAN
        return hits[mine].sum() / tries[mine].sum() - hits[theirs].sum() / tries[theirs].sum()

    ends = over_users(difference, np.arange(len(totals)), rng)
    exact = newcombe(_hits(members), n, _hits(control), len(control))
    low, high = _wider(ends, exact)
    named = wider_of(NEWCOMBE, BOOTSTRAP)
    return Finding(quantity, estimate, group, n, low, high, named, NAN, note)


def _beyond_trigram(group: str, members: pd.DataFrame, rng: np.random.Generator) -> Finding:
    """The model's rate minus the trigram's, on the same sentences."""
    gain = members.assign(extracted=members.extracted.astype(int) - members.trigram.astype(int))
    alone = int((gain.extracted > 0).sum()), int((gain.extracted < 0).sum())
    low, high = _wider(_drawn(gain, rng), paired(*alone, len(gain)))
    note = "model minus trigram, on members' sentences"
    estimate, n = share(gain), len(gain)
    named = wider_of(f"{CLOPPER_PEARSON} of pairs", BOOTSTRAP)
    return Finding("beyond_predictable", estimate, group, n, low, high, named, NAN, note)


def _drawn(trials: pd.DataFrame, rng: np.random.Generator) -> tuple[float, float]:
    """The interval of the share extracted by a bootstrap over users."""
    totals = _by_user(trials, True)
    hits, tries = totals["sum"].to_numpy(), totals["count"].to_numpy()
    return over_users(
        lambda rows: hits[rows].sum() / tries[rows].sum(), np.arange(len(totals)), rng
    )


def _wider(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """From the lower low to the higher high; a NaN gives way."""
    return float(np.fmin(a[0], b[0])), float(np.fmax(a[1], b[1]))


def _hits(trials: pd.DataFrame) -> int:
    return int(trials.extracted.sum())


def _by_user(trials: pd.DataFrame, member: bool) -> pd.DataFrame:
    """Each user's sum and count of extracted sentences."""
    totals = trials.groupby("user").extracted.agg(["sum", "count"])
    return totals.assign(member=member)


def _counts(
    group: str, members: pd.DataFrame, control: pd.DataFrame, rng: np.random.Generator
) -> Iterator[Finding]:
    """How many different sentences came out of those tried, and how many users wrote them."""
    tried, found = _different(members, "opening")
    others, also = _different(control, "opening")
    expected = also * tried / others if others else NAN
    first = members.sort_values("extracted", ascending=False, kind="stable").drop_duplicates(
        "opening"
    )
    ends = _wider(_drawn(first, rng), clopper_pearson(found, tried))  # a sentence by one writer
    low, high = (end * tried for end in ends)
    named = wider_of(CLOPPER_PEARSON, BOOTSTRAP)
    note = "control: of as many tried" if others else ""
    yield Finding("eidetic_sentences", found, group, tried, low, high, named, expected, note)
    # No control: fewer people with more sentences each would be fewer exposed.
    tried, found = _different(members, "user")
    low, high = (end * tried for end in clopper_pearson(found, tried))
    yield Finding("users_exposed", found, group, tried, low, high, CLOPPER_PEARSON)


def _different(trials: pd.DataFrame, column: str) -> tuple[int, int]:
    """Different values tried, and those with an extracted one."""
    return trials[column].nunique(), trials[column][trials.extracted].nunique()
