"""Epsilon against who knows who took part: sampling hides nobody whose name was seen.

A schedule is drawn without a look at anybody's text. Given the schedule, a user who was drawn k
times is protected by the noise of these k rounds alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedsim.privacy.accountants import compose
from fedsim.privacy.events import Event, events_from

RARE = 1e-9  # chance that anybody at all is drawn more often than is accounted
_BY_CHANCE = ("poisson", "truncated", "fixed")


def most_draws(events: Iterable[Event], records: int) -> int:
    """How often one of so many records is drawn at most, but for one run in 10^9."""
    from scipy.stats import binom

    drawn = [event for event in events if event.kind in _BY_CHANCE and event.count]
    chance = RARE / max(records, 1) / max(len(drawn), 1)
    most = (min(int(binom.isf(chance, e.count, e.share)), e.count) for e in drawn)
    return sum(most)


def with_known_names(events: Iterable[Event], draws: int) -> tuple[Event, ...]:
    """The events as who knows the names sees them, of a record that was drawn so often.

    Where several kinds are drawn from, each counts for all of the draws.
    """
    return tuple(
        Event("gaussian", event.noise_multiplier, min(draws, event.count))
        if event.kind in _BY_CHANCE
        else event
        for event in events
    )


def epsilon_of_known(events: Iterable[Event], draws: int, delta: float) -> float:
    """Epsilon of a record that was drawn so often, for who knows when: of one Gaussian, exactly."""
    return compose(with_known_names(events, draws), delta, grid=2.0).epsilon  # no cross-check


def as_drawn(told: Mapping[str, Any], draws: int) -> dict[str, Any]:
    """A guarantee's plain values with the epsilon of known names as the cohorts really were."""
    if told.get("epsilon_names_known") is None:
        return dict(told)
    epsilon = epsilon_of_known(events_from(told["events"]), draws, float(told["delta"]))
    return {**told, "epsilon_names_known": epsilon, "draws": draws}
