"""The best of a random number of runs, as one private run (Papernot & Steinke 2022).

Settings are drawn independently of one another and of all results, the number of runs is Poisson,
and only the best run's settings become known, not the others' models or scores, nor how many there
were: then a search costs far less than its runs together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from fedsim.privacy.accountants import Loss, compose
from fedsim.privacy.events import Event, merged, without_thresholds

PRIVATE_SELECTION = (
    "private selection of a Poisson number of trials (Papernot & Steinke 2022), by RDP: "
    "where trials, their scores and their number stay with whoever searched"
)
COMPOSITION = "composition of all trials with what was trained after them"
COMPOSITION_OF_SEEDS = "composition of all seeds"
# How an accountant's name begins -> the theorem by which it composes, adaptively.
_COMPOSED_BY = {
    "exact Gaussian": "Gaussian mechanisms are one together (Dong, Roth & Su 2022)",
    "PLD": "dominating pairs compose (Zhu, Dong & Wang 2022)",
    "RDP": "Renyi divergences add up (Mironov 2017)",
}
_ORDERS = (*range(2, 65), *(round(64 * 1.15**step) for step in range(1, 40)))


def select(one: Sequence[Event], mean: float, after: Sequence[Event], delta: float) -> Loss | None:
    """A Poisson number of runs of the events `one`, `mean` in expectation, of which the best is
    known, and after them the events `after`. None where Renyi's accountant cannot tell.

    The words of a vocabulary are released once, before all of them.
    """
    released, one, after = _words((*one, *after)), _rounds(one), _rounds(after)
    before, chance = without_thresholds(released)
    events = (*before, *one, *after)
    if any(event.kind == "truncated" or not event.noise_multiplier for event in events):
        return None
    if chance >= delta:
        return None
    after = merged((*before, *after))
    epsilon = _selected(merged(one), mean, after, delta - chance) - math.log1p(-chance)
    return Loss(epsilon, PRIVATE_SELECTION, epsilon) if math.isfinite(epsilon) else None


def _words(events: Sequence[Event]) -> tuple[Event, ...]:
    """The release of the words that all runs share: with the least noise that one counts."""
    found = [event for event in events if event.kind == "threshold"]
    return (min(found, key=lambda event: event.noise_multiplier),) if found else ()


def _rounds(events: Sequence[Event]) -> tuple[Event, ...]:
    return tuple(event for event in events if event.kind != "threshold")


@lru_cache(maxsize=256)
def _selected(one: tuple[Event, ...], mean: float, after: tuple[Event, ...], delta: float) -> float:
    import dp_accounting as dp
    from dp_accounting.dp_event import RepeatAndSelectDpEvent
    from dp_accounting.rdp import RdpAccountant

    replaced = any(event.kind == "fixed" for event in (*one, *after))
    relation = dp.NeighboringRelation
    made = relation.REPLACE_ONE if replaced else relation.ADD_OR_REMOVE_ONE
    accountant = RdpAccountant(np.array(_ORDERS), made)
    accountant.compose(RepeatAndSelectDpEvent(_dp_event(one), mean, math.inf))
    accountant.compose(_dp_event(after))
    return float(accountant.get_epsilon(delta))


def _dp_event(events: Sequence[Event]) -> object:
    import dp_accounting as dp

    out = []
    for event in events:
        made: dp.DpEvent = dp.GaussianDpEvent(event.noise_multiplier)
        if event.kind == "poisson":
            made = dp.PoissonSampledDpEvent(event.share, made)
        elif event.kind == "fixed":
            made = dp.SampledWithoutReplacementDpEvent(event.users, event.cohort, made)
        out.append(dp.SelfComposedDpEvent(made, event.count))
    return dp.ComposedDpEvent(out)


def costs_less(one: Sequence[Event], mean: float, after: Sequence[Event], delta: float) -> bool:
    """Whether private selection costs less than so many trials would together.

    It is decided by the mean, never by how many trials were drawn: that would tell of a number that
    private selection keeps secret.
    """
    released, one, after = _words((*one, *after)), _rounds(one), _rounds(after)
    selected = select((*released, *one), mean, after, delta)
    if selected is None:
        return False
    many = [replace(event, count=math.ceil(mean) * event.count) for event in one]
    return selected.epsilon < compose((*released, *many, *after), delta).epsilon


def search_and_runs(
    one: Sequence[Event],
    trials: Sequence[Sequence[Event]],
    mean: float,
    after: Sequence[Event],
    delta: float,
) -> Loss:
    """By private selection of `mean` trials like `one`; where that is 0, by composition of the
    `trials` that were really made, each with its own events.

    A composition tells how many they were. So of one search either all that is published is of the
    one kind, or all of the other. Raises ValueError where private selection cannot tell.
    """
    released, one, after = _words((*one, *after)), _rounds(one), _rounds(after)
    if mean:
        selected = select((*released, *one), mean, after, delta)
        if selected is None:
            raise ValueError("private selection is not computable of these events")
        return selected
    made = [event for events in trials for event in _rounds(events)]
    composed = compose((*released, *made, *after), delta)
    what = COMPOSITION if trials else COMPOSITION_OF_SEEDS
    return replace(composed, accountant=by_composition(what, composed.accountant))


def by_composition(what: str, accountant: str) -> str:
    """The name of a composition: of what, by which theorem, computed by whom."""
    found = (theorem for name, theorem in _COMPOSED_BY.items() if accountant.startswith(name))
    theorem = next(found, "")
    return f"{what} ({theorem}; {accountant})" if theorem else f"{what} ({accountant})"
