"""Who is best in a comparison, who shares the place, and who gets to the target, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from fedsim.report.comparison_cells import (
    SCORES,
    Cells,
    Measure,
    Setting,
    mean_text,
    points,
    value_of,
    with_half,
)
from fedsim.report.formats import number, percent, size
from fedsim.studies.ordering import LEAST_SEEDS

MOST_NAMED = 11  # told one by one; more are counted


def named(told: Sequence[str], most: int = MOST_NAMED) -> str:
    """a; b; and 3 more in the table."""
    rest = len(told) - most
    text = "; ".join(told[:most])
    return f"{text}; and {rest} more in the table" if rest > 0 else text


def best(cells: Cells) -> Iterator[str]:
    """Who has the highest mean, and whether that is more than chance."""
    measure, what = SCORES["top1"], "mean top-1 on the test users"
    if len(cells.settings) > 1:
        yield from _over_settings(cells, f"Highest {what}", "top1", measure)
        return
    setting = cells.settings[0]
    ranked, tied = cells.ranked(setting, "top1", measure), cells.tied(setting, "top1", measure)
    if not tied:
        return
    row = cells.row(tied[0], setting)
    if len(tied) > 1:
        whose = "all strategies" if tied == ranked else _joined(tied)
        yield f"The highest {what}, {mean_text(row, 'top1', measure)} %, is that of {whose} alike."
        return
    text = f"{tied[0]} has the highest {what}: {with_half(row, 'top1', measure)} %"
    if len(ranked) > 1:
        lead = row["top1"] - cells.row(ranked[1], setting)["top1"]
        text += f", {points(lead).lstrip('+')} points above {ranked[1]}"
        text += f"; {_lead(cells, setting, 'top1', measure)}"
    yield f"{text}."


def leader(cells: Cells, what: str, column: str, measure: Measure) -> Iterator[str]:
    """Who is best in a column; those who are equal as they are shown share the place."""
    if len(cells.settings) > 1:
        yield from _over_settings(cells, what, column, measure)
        return
    setting = cells.settings[0]
    tied = cells.tied(setting, column, measure)
    if not tied:
        return
    row = cells.row(tied[0], setting)
    if len(tied) > 1:
        value = f"{mean_text(row, column, measure)} {measure.unit}".rstrip()
        yield f"{what}: {_shared(cells, setting, tied, column, measure)}, {value}."
        return
    text = f"{what}: {tied[0]}, {with_half(row, column, measure)} {measure.unit}"
    alone = len(cells.comparison.strategies) == 1
    yield f"{text.rstrip()}{'' if alone else '; ' + _lead(cells, setting, column, measure)}."


def _over_settings(cells: Cells, what: str, column: str, measure: Measure) -> Iterator[str]:
    """In how many settings each strategy is best, and the best cell of all."""
    tied = {s: cells.tied(s, column, measure) for s in cells.settings}
    tied = {s: names for s, names in tied.items() if names}
    if not tied:
        return
    won = Counter(_shared(cells, s, names, column, measure) for s, names in tied.items())
    told = ", ".join(f"{name} in {times}" for name, times in won.most_common())
    clear = [cells.named(s) for s in cells.settings if cells.leads(s, column, measure)]
    text = f"{what}: {told} of {len(cells.settings)} settings"
    if any(len(names) == 1 for names in tied.values()) and len(cells.comparison.strategies) > 1:
        text += f"; {_leads(cells, clear)}"
    sign = 1.0 if measure.more_is_better else -1.0
    places = [(name, s) for s, names in tied.items() for name in names]
    top = max(places, key=lambda cell: sign * float(cells.row(*cell)[column]))
    mean = mean_text(cells.row(*top), column, measure)
    equal = [cell for cell in places if mean_text(cells.row(*cell), column, measure) == mean]
    if len(equal) > 1:
        text = f"{text}. Best of all: {mean} {measure.unit}".rstrip()
        yield f"{text}, in {len(equal)} cells alike."
        return
    value = with_half(cells.row(*top), column, measure)
    yield f"{text}. Best of all: {cells.at(*top)}, {value} {measure.unit}".rstrip() + "."


def _shared(
    cells: Cells, setting: Setting, tied: Sequence[str], column: str, measure: Measure
) -> str:
    """The winner; those who share the place."""
    if len(tied) == 1:
        return tied[0]
    if len(tied) == len(cells.ranked(setting, column, measure)):
        return "equal for all"
    return f"{_joined(tied)} alike"


def _joined(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _leads(cells: Cells, clear: Sequence[str]) -> str:
    if len(cells.comparison.seeds) < LEAST_SEEDS:
        return f"{_few(len(cells.comparison.seeds))} no verdict on a lead"
    if not clear:
        return "the lead is resolved in none of them"
    return f"the lead is resolved in {len(clear)} of them ({named(clear, 4)})"


def _lead(cells: Cells, setting: Setting, column: str, measure: Measure) -> str:
    seeds = [len(cells.runs(s, setting)) for s in cells.comparison.strategies]
    fewest = min(n for n in seeds if n)
    if fewest < LEAST_SEEDS:
        return f"{_few(fewest)} no verdict on its lead"
    if cells.leads(setting, column, measure):
        return "its lead over every other strategy is resolved"
    return "its lead over the others is not resolved"


def _few(seeds: int) -> str:
    return "one seed gives" if seeds == 1 else f"{seeds} seeds give"


# -- the target ------------------------------------------------------------------------------


def to_target(cells: Cells) -> Iterator[str]:
    """Which cells get to the target at all, and which are cheapest of those that always do."""
    target = cells.comparison.target
    if not target:  # one of 0 is reached before the first round
        return
    goal = f"{percent(target)} validation top-1"
    found = {cell: reached(cells, *cell) for cell in cells}
    always = [cell for cell, (got, asked) in found.items() if asked and got == asked]
    seldom = [f"{cells.at(*cell)} in {got} of {asked} runs"
              for cell, (got, asked) in found.items() if got < asked]  # fmt: skip
    if always:
        yield f"{_cheapest(cells, always, goal)}; differences in cost are not tested."
    elif any(got for got, _ in found.values()):
        yield f"No cell gets to {goal} in every run."
    else:
        yield f"No run gets to {goal}{_highest(cells)}."
        return
    if seldom:
        yield f"Not always at {goal}: {named(seldom, 6)}."


def _cheapest(cells: Cells, always: Sequence[tuple[str, Setting]], goal: str) -> str:
    """Who takes the fewest rounds, and who the fewest bytes up and down."""
    rounds, fewest = _least(cells, always, "rounds_to_target", Measure("rounds", "", 1, 1))
    sent: dict[tuple[tuple[str, Setting], ...], list[str]] = {}
    for column, way in (("bytes_to_target", "uploaded"), ("download_to_target", "downloaded")):
        whose, least = _least(cells, always, column, Measure("bytes", "", 1, 0))
        sent.setdefault(tuple(whose), []).append(f"the fewest {way} bytes ({size(least)})")
    if len(always) > 1 and len(rounds) == len(always):
        text = f"All cells that always get to {goal} take {number(fewest, 1)} rounds on average; "
    else:
        took = [f"in the fewest rounds on average ({number(fewest, 1)})"]
        took += sent.pop(tuple(rounds), [])
        text = f"{_whose(cells, rounds, always)} get{'s' if len(rounds) == 1 else ''} to {goal} "
        text += _joined(took) + (", " if sent else "")
    return text + ", ".join(
        f"{_whose(cells, whose, always)} with {_joined(told)}" for whose, told in sent.items()
    )


def _least(
    cells: Cells, always: Sequence[tuple[str, Setting]], column: str, measure: Measure
) -> tuple[list[tuple[str, Setting]], float]:
    """The cells with the lowest mean as it is shown, and that mean."""
    means = {cell: value_of(cells.row(*cell), column) for cell in always}
    least = min(means.values())
    said = number(least, measure.digits)
    return [cell for cell, mean in means.items() if number(mean, measure.digits) == said], least


def _whose(
    cells: Cells, mine: Sequence[tuple[str, Setting]], of: Sequence[tuple[str, Setting]]
) -> str:
    """Names; "all" where nobody is left out."""
    if len(mine) == 1:
        return cells.at(*mine[0])
    if len(mine) == len(of):
        return "all"
    if len(mine) > MOST_NAMED:
        return f"{len(mine)} cells"
    return _joined([cells.at(*cell) for cell in mine])


def _highest(cells: Cells) -> str:
    """The highest recall on validation users in any evaluation."""
    curves = cells.comparison.curves
    known = curves["top1"].dropna() if len(curves) else []
    if not len(known):
        return ""
    row = curves.iloc[int(curves["top1"].reset_index(drop=True).idxmax())]
    cell = row["strategy"], tuple(row[axis] for axis in cells.comparison.axes)
    reached_by = f"{cells.at(*cell)}, seed {row['seed']}, round {row['round']}"
    return f"; the highest that any reaches is {percent(row['top1'])} ({reached_by})"


def reached(cells: Cells, strategy: str, setting: Setting) -> tuple[int, int]:
    """How many of the cell's finished runs got to the target, and of how many."""
    values = cells.values(strategy, setting, "rounds_to_target")
    return len(values), len(cells.runs(strategy, setting))
