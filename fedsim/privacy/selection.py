"""The best of a random number of runs, as one private run (Papernot & Steinke 2022).

Settings are drawn independently of one another and of all results, the number of runs is Poisson,
and only the best run's settings become known, not the others' models or scores, nor how many there
were: then a search costs far less than its runs together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from fedsim.privacy.accountants import Loss, compose
from fedsim.privacy.events import Event, merged

PRIVATE_SELECTION = (
    "private selection of a Poisson number of trials (Papernot & Steinke 2022), by RDP: "
    "where trials, their scores and their number stay with whoever searched"
)
COMPOSITION = "composition of all trials with what was trained after them, by PLD where it can be"
_ORDERS = (*range(2, 65), *(round(64 * 1.15**step) for step in range(1, 40)))


def select(one: Sequence[Event], mean: float, after: Sequence[Event], delta: float) -> Loss | None:
    """A Poisson number of runs of the events `one`, `mean` in expectation, of which the best is
    known, and after them the events `after`. None where Renyi's accountant cannot tell."""
    events = (*merged(one), *merged(after))
    if any(event.kind == "truncated" or not event.noise_multiplier for event in events):
        return None
    epsilon = _selected(merged(one), mean, merged(after), delta)
    return Loss(epsilon, PRIVATE_SELECTION, epsilon) if math.isfinite(epsilon) else None


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


def search_and_runs(
    one: Sequence[Event],
    trials: Sequence[Sequence[Event]],
    mean: float,
    after: Sequence[Event],
    delta: float,
) -> Loss:
    """The smaller of both bounds: private selection, where `mean` says that it was one (0: it was
    not), and the composition of the `trials` that were really made, each with its own events."""
    made = [event for events in trials for event in events]
    composed = compose((*made, *after), delta)
    composed = Loss(composed.epsilon, COMPOSITION, composed.rdp, composed.warnings)
    selected = select(one, mean, after, delta) if mean else None
    if selected is not None and selected.epsilon < composed.epsilon:
        return selected
    return composed
