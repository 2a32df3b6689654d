"""Which server optimizer each strategy of a comparison runs with, told before and after it.

A preset's optimizer goes to the strategies that leave it open, and not to those that imply one of
their own: FedAvg may have momentum where SCAFFOLD has none, which is no difference of strategies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedsim.studies.cells import Cell, Plan
from server.strategies import STRATEGIES
from server.strategies.server_optimizers import OfOptimizer


def server_optimizers(plan: Plan, cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Optimizer -> the strategies that run with it; their cells, where an axis changes it."""
    names = {cell: plan.config(cell, 1).optimizer.name for cell in cells}
    found: dict[str, list[str]] = {}
    for cell, name in names.items():
        of_strategy = {n for other, n in names.items() if other.strategy == cell.strategy}
        who = cell.strategy if len(of_strategy) == 1 else cell.name
        if who not in found.setdefault(name, []):
            found[name].append(who)
    return found


def sentence(found: Mapping[str, Sequence[str]]) -> str:
    """What runs with what; a word of warning where strategies that are not named after their
    optimizer have different ones, and no axis asked for that."""
    told = [f"{name} for {', '.join(who)}" for name, who in found.items()]
    text = f"Server optimizer: {'; '.join(told)}."
    apart = [(name, [one for one in who if _leaves_open(one)]) for name, who in found.items()]
    apart = [(name, who) for name, who in apart if who]
    if len(apart) < 2:
        return text
    (first, (one, *_)), (_, (other, *_)), *_ = apart
    return (
        f"{text} {one} and {other} differ in that too, not in the strategy alone; "
        f"{other}:optimizer={first} would give both the same."
    )


def _leaves_open(who: str) -> bool:
    """Whether it is a strategy, not a cell, and has any optimizer beside its own idea."""
    return who in STRATEGIES and not issubclass(STRATEGIES[who], OfOptimizer)
