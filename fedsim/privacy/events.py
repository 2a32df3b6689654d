"""The primitives that a guarantee is made of, so that anybody can compose it again.

A run is a list of events, in whatever order: composition does not care. All noise multipliers are
over the sensitivity of what the noise hides, so that an event says all that an accountant needs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fedsim.errors import FedsimError

Kind = Literal["gaussian", "poisson", "truncated", "fixed", "threshold"]
_FIELDS: dict[str, tuple[str, ...]] = {
    "gaussian": (),
    "poisson": ("rate",),
    "truncated": ("rate", "users", "cut"),
    "fixed": ("users", "cohort"),
    "threshold": ("chance",),
}


@dataclass(frozen=True)
class Event:
    """`count` times the same noisy sum.

    gaussian: everybody is in it. poisson: each record by its own coin of chance `rate`, zero out
    one. truncated: as poisson among `users`, of which no more than `cut` are kept, by chance.
    fixed: `cohort` of `users` without replacement, replace one. threshold: as gaussian, of counts
    of which those above a threshold are told; with probability `chance` one is told that is the
    record's alone.

    `noise_multiplier` is the deviation of the noise over the sensitivity: by how much one record
    moves the sum at most, which is a clip norm, but two of them where one record replaces another
    (fixed; gaussian of `local`), and that of the strategy matrix where noise is correlated.
    """

    kind: Kind
    noise_multiplier: float
    count: int = 1
    rate: float | None = None
    users: int | None = None
    cohort: int | None = None
    cut: int | None = None
    chance: float | None = None

    def __post_init__(self) -> None:
        given = {f.name for f in dataclasses.fields(self) if getattr(self, f.name) is not None}
        needed = {"kind", "noise_multiplier", "count", *_FIELDS.get(self.kind, ())}
        if self.kind not in get_args(Kind) or given != needed:
            raise FedsimError(f"No accountant knows the event {self}.")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise FedsimError(f"The event {self} has no noise that a number can be made of.")
        if self.count < 0 or not 0 <= self.share <= 1 or not 0 <= (self.chance or 0) < 1:
            raise FedsimError(f"The event {self} cannot have happened.")

    @property
    def share(self) -> float:
        """The chance of one record to be in it, but for what is cut."""
        if self.kind == "fixed":
            return (self.cohort or 0) / (self.users or 1)
        return 1.0 if self.rate is None else self.rate

    def as_dict(self) -> dict[str, Any]:
        """Plain values, those that the kind has."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}


def events_from(told: Iterable[Mapping[str, Any]]) -> tuple[Event, ...]:
    """The inverse of `Event.as_dict`, of many. Raises FedsimError for what is none."""
    try:
        return tuple(Event(**event) for event in told)
    except TypeError:
        raise FedsimError("The statement's events are not as they were written.") from None


def merged(events: Iterable[Event]) -> tuple[Event, ...]:
    """The same guarantee in fewer events, in an order of their own.

    Sums that everybody is in are one Gaussian, whose squared precision is the sum of theirs; equal
    events add up their counts; those that touch nobody are left out. Infinite loss (no noise) stays
    an event.
    """
    counts: dict[Event, int] = {}
    precision, exposed = 0.0, False
    for event in events:
        if not event.count or not event.share:
            continue
        if not event.noise_multiplier:
            exposed = True
        elif event.share == 1 and event.kind not in ("truncated", "threshold"):
            precision += event.count / event.noise_multiplier / event.noise_multiplier
        else:
            key = dataclasses.replace(event, count=0)
            counts[key] = counts.get(key, 0) + event.count
    out = [dataclasses.replace(event, count=count) for event, count in counts.items()]
    if exposed:
        return (Event("gaussian", 0.0),)
    if precision:
        out.append(Event("gaussian", precision**-0.5))
    return tuple(sorted(out, key=lambda event: (event.kind, event.noise_multiplier, event.share)))


def without_thresholds(events: Iterable[Event]) -> tuple[tuple[Event, ...], float]:
    """The events with a Gaussian in place of each threshold, and the chances in all.

    Unless a word that one record alone has is released, what a threshold lets out is made of a
    Gaussian mechanism's counts, so that the chance adds to delta; and as such words are not
    released with 1 - chance, the other way round costs a factor of 1 / (1 - chance).
    """
    events = tuple(events)
    chance = math.fsum(event.count * (event.chance or 0) for event in events)
    plain = (dataclasses.replace(event, kind="gaussian", chance=None)
             if event.kind == "threshold" else event for event in events)  # fmt: skip
    return tuple(plain), chance


def rho_of(events: Iterable[Event]) -> float:
    """zCDP's rho (Bun & Steinke 2016), counting no sampling: it adds up over runs, by hand too."""
    return math.fsum(_half_precision(event) for event in events if event.share)


def _half_precision(event: Event) -> float:
    if not event.count:
        return 0.0
    if not event.noise_multiplier:
        return math.inf
    return event.count / event.noise_multiplier / event.noise_multiplier / 2


def mu_of(events: Iterable[Event]) -> float | None:
    """GDP's mu where the whole is exactly one Gaussian mechanism (Dong, Roth & Su 2022), else
    None: where somebody is drawn by chance, no mu describes it."""
    whole = merged(events)
    if not whole:
        return 0.0
    if len(whole) > 1 or whole[0].kind != "gaussian":
        return None
    noise = whole[0].noise_multiplier
    return 1 / noise if noise else math.inf
