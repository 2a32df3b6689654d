"""What a comparison shows and what it cannot show, in plain sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from fedsim.report.comparison_cells import (
    SCORES,
    Cells,
    Measure,
    Setting,
    difference,
    p_value,
    points,
    resolved,
    shown,
    value_of,
    with_half,
)  # fmt: skip
from fedsim.report.formats import count, missing, number, percent, size

MOST_NAMED = 11  # told one by one; more are counted
EDGE = 0.05  # of a range's length on its axis


def results(cells: Cells) -> list[str]:
    """What was found, the most wanted first."""
    if all(cells.runs(*cell).empty for cell in cells):
        return [_extent(cells), "No run finished, so there is nothing to compare."]
    return [
        _extent(cells),
        *_best(cells),
        *_against_reference(cells),
        *_to_target(cells),
        *_fairest(cells),
        *_leakage(cells),
    ]


def caveats(cells: Cells) -> list[str]:
    """What a reader must bear in mind: seeds, tuning, values at an edge, failed runs."""
    return [*_seeds(cells), *_tuning(cells), *privacy(cells), *_failures(cells),
            *_not_measured(cells)]  # fmt: skip


def _extent(cells: Cells) -> str:
    compared = cells.comparison
    runs = compared.runs
    finished = int((runs["state"] == "finished").sum())
    text = count(len(compared.strategies), "strategy", "strategies")
    if compared.axes:
        text += f" at {count(len(cells.settings), 'setting')} of {', '.join(compared.axes)}"
    rounds = cells.all_values("rounds")
    if len(rounds):
        low, high = int(rounds.min()), int(rounds.max())
        text += f", {low:,} rounds" if low == high else f", {low:,} to {high:,} rounds"
    return f"{text}, {count(len(compared.seeds), 'seed')}: {finished} of {len(runs)} runs finished."


def _best(cells: Cells) -> Iterator[str]:
    """Who has the highest mean, and whether that is more than chance."""
    measure = SCORES["top1"]
    if len(cells.settings) > 1:
        yield from _over_settings(cells, "Highest mean top-1 on the test users", "top1", measure)
        return
    best = cells.best(cells.settings[0], "top1", measure)
    if best is None:
        return
    row = cells.row(best, cells.settings[0])
    text = f"{best} has the highest mean top-1 on the test users: "
    text += f"{with_half(row, 'top1', measure)} %"
    ranked = cells.ranked(cells.settings[0], "top1", measure)
    if len(ranked) > 1:
        lead = row["top1"] - cells.row(ranked[1], cells.settings[0])["top1"]
        text += f", {points(lead).lstrip('+')} points above {ranked[1]}"
        text += f"; {_lead(cells, cells.settings[0], 'top1', measure)}"
    yield f"{text}."


def _over_settings(cells: Cells, what: str, column: str, measure: Measure) -> Iterator[str]:
    """In how many settings each strategy is best, and the best cell of all."""
    best = {s: cells.best(s, column, measure) for s in cells.settings}
    won = Counter(name for name in best.values() if name is not None)
    if not won:
        return
    told = ", ".join(f"{name} in {times}" for name, times in won.most_common())
    clear = [cells.named(s) for s in cells.settings if cells.leads(s, column, measure)]
    text = f"{what}: {told} of {len(cells.settings)} settings"
    if len(cells.comparison.strategies) > 1:
        text += f"; {_leads(cells, clear)}"
    sign = 1.0 if measure.more_is_better else -1.0
    top = max(
        ((name, s) for s, name in best.items() if name is not None),
        key=lambda cell: sign * float(cells.row(*cell)[column]),
    )
    value = with_half(cells.row(*top), column, measure)
    yield f"{text}. Best of all: {cells.at(*top)}, {value} {measure.unit}".rstrip() + "."


def _leads(cells: Cells, clear: Sequence[str]) -> str:
    if len(cells.comparison.seeds) == 1:
        return "one seed gives no verdict on a lead"
    if not clear:
        return "the lead is resolved in none of them"
    return f"the lead is resolved in {len(clear)} of them ({_named(clear, 4)})"


def _lead(cells: Cells, setting: Setting, column: str, measure: Measure) -> str:
    runs = [cells.runs(s, setting) for s in cells.comparison.strategies]
    if any(len(own) == 1 for own in runs):
        return "one seed gives no verdict on its lead"
    if cells.leads(setting, column, measure):
        return "its lead over every other strategy is resolved"
    return "its lead over the others is not resolved"


def _against_reference(cells: Cells) -> Iterator[str]:
    """The paired differences to the first strategy, the largest first."""
    reference = cells.reference
    rows = [(cells.at(*cell), cells.row(*cell)) for cell in cells if cell[0] != reference]
    rows = [(name, row) for name, row in rows if not missing(row.get("difference"))]
    rows.sort(key=lambda pair: -abs(pair[1]["difference"]))
    if not rows:
        return
    tested = [(name, row) for name, row in rows if not missing(row.get("p"))]
    clear = [(name, row) for name, row in tested if resolved(row)]
    told: dict[bool, list[str]] = {True: [], False: []}
    for name, row in clear:
        told[bool(row["difference"] > 0)].append(f"{name} {difference(row)}, p {_p(row)}")
    if tested:
        yield (
            f"Against {reference}, {len(clear)} of {count(len(tested), 'difference')} in test "
            "top-1 are resolved (points, paired by seed, 95 % interval; Holm's p below 0.05)."
        )
    most = MOST_NAMED if len(cells.settings) == 1 else 4
    if told[True]:
        yield f"Better than {reference}: {_named(told[True], most)}."
    if told[False]:
        yield f"Worse than {reference}: {_named(told[False], most)}."
    rest = [f"{name} {difference(row)}" for name, row in tested if not resolved(row)]
    if len(rest) > MOST_NAMED:
        yield f"Not resolved against {reference}: {len(rest)} differences, all in the table."
    elif rest:
        yield f"Not resolved against {reference}: {_named(rest)}."
    unknown = [f"{name} {difference(row)}" for name, row in rows if missing(row.get("p"))]
    if unknown:
        yield f"Points of test top-1 above {reference}, with no verdict: {_named(unknown, most)}."


def _p(row: dict[str, Any]) -> str:
    text = p_value(row["p"])
    return text if text.startswith("<") else f"= {text}"


def _named(told: Sequence[str], most: int = MOST_NAMED) -> str:
    rest = len(told) - most
    text = "; ".join(told[:most])
    return f"{text}; and {rest} more in the table" if rest > 0 else text


def _to_target(cells: Cells) -> Iterator[str]:
    """Which cells get to the target at all, and which are cheapest of those that always do."""
    target = cells.comparison.target
    if target is None:
        return
    always, never = [], []
    for cell in cells:
        got, asked = reached(cells, *cell)
        if asked and got == asked:
            always.append(cell)
        elif asked:
            never.append(f"{cells.at(*cell)} in {got} of {asked} runs")
    goal = f"{percent(target)} validation top-1"
    if always:
        rounds, uploaded = (
            min(always, key=lambda cell: value_of(cells.row(*cell), column))
            for column in ("rounds_to_target", "bytes_to_target")
        )
        fewest = value_of(cells.row(*rounds), "rounds_to_target")
        least = value_of(cells.row(*uploaded), "bytes_to_target")
        yield (
            f"{cells.at(*rounds)} gets to {goal} in the fewest rounds on average "
            f"({number(fewest, 1)})"
            + (" and the" if uploaded == rounds else f", {cells.at(*uploaded)} with the")
            + f" fewest uploaded bytes ({size(least)}); differences in cost are not tested."
        )
    else:
        yield f"No cell gets to {goal} in every run."
    if never:
        yield f"Not always at {goal}: {_named(never, 6)}."


def reached(cells: Cells, strategy: str, setting: Setting) -> tuple[int, int]:
    """How many of the cell's finished runs got to the target, and of how many."""
    values = cells.values(strategy, setting, "rounds_to_target")
    return len(values), len(cells.runs(strategy, setting))


def _fairest(cells: Cells) -> Iterator[str]:
    """Who serves the worst-served tenth best."""
    column = "worst_decile_top1"
    yield from _leader(cells, "Best for the worst-served tenth of users", column, SCORES[column])


def _leakage(cells: Cells) -> Iterator[str]:
    for column, measure in cells.leakage.items():
        yield from _leader(cells, f"Lowest {measure.name}", column, measure)


def _leader(cells: Cells, what: str, column: str, measure: Measure) -> Iterator[str]:
    if len(cells.settings) > 1:
        yield from _over_settings(cells, what, column, measure)
        return
    setting = cells.settings[0]
    best = cells.best(setting, column, measure)
    if best is None:
        return
    text = f"{what}: {best}, {with_half(cells.row(best, setting), column, measure)} {measure.unit}"
    alone = len(cells.comparison.strategies) == 1
    yield f"{text.rstrip()}{'' if alone else '; ' + _lead(cells, setting, column, measure)}."


def _seeds(cells: Cells) -> Iterator[str]:
    seeds = len(cells.comparison.seeds)
    if seeds == 1:
        yield ("One seed cannot say whether a difference is more than chance: there is no "
               "interval and no verdict.")  # fmt: skip
    elif seeds < 5:
        yield (f"{seeds} seeds give wide intervals: what is not resolved may still be there, and "
               "more seeds may show it.")  # fmt: skip


def _tuning(cells: Cells) -> Iterator[str]:
    compared = cells.comparison
    if compared.trials.empty:
        yield (
            "Nothing was tuned: every strategy ran with the values of the config, which may "
            "suit some better than others."
        )
        return
    trials = compared.trials.groupby(["strategy", *compared.axes]).size()
    if trials.nunique() == 1:
        yield (
            f"Tuned alike, with {count(int(trials.iloc[0]), 'trial')} a strategy"
            f"{' and setting' if compared.axes else ''}, on validation users; test users had no "
            "say in it."
        )
    else:
        yield (
            f"The tuning was not equal: {int(trials.min())} to {int(trials.max())} trials; "
            "run the same command again to complete it."
        )
    fixed = [s for s in compared.strategies if s not in set(compared.trials["strategy"])]
    if fixed:
        yield f"Without a search, with the values of the config: {', '.join(fixed)}."
    yield from _edges(cells)


def _edges(cells: Cells) -> Iterator[str]:
    compared = cells.comparison
    edges = []
    for row in compared.chosen.to_dict("records"):
        if at_edge(row["value"], row["low"], row["high"]):
            cell = cells.at(row["strategy"], tuple(row[axis] for axis in compared.axes))
            edges.append(f"{row['key']} = {shown(row['value'])} of {cell}")
    if edges:
        yield f"Chosen at an edge of its range, where a wider one may do better: {_named(edges)}."


def at_edge(value: float, low: float, high: float) -> bool:
    """Whether a chosen value lies in the outer 5 % of its range, on the logarithmic axis."""
    if missing(value) or not 0 < low < high or value <= 0:
        return False
    place = math.log(value / low) / math.log(high / low)
    return place <= EDGE or place >= 1 - EDGE


def privacy(cells: Cells) -> Iterator[str]:
    """What one run guarantees, and that the search saw the same users: told once for all cells of
    which the same can be said."""
    compared = cells.comparison
    whose: dict[str, list[str]] = {}
    for row in compared.privacy.to_dict("records"):
        cell = cells.at(row["strategy"], tuple(row[axis] for axis in compared.axes))
        whose.setdefault(_guaranteed(row), []).append(cell)
    for text, names in whose.items():
        yield f"Privacy of {_named(names, 4)}: {text}."


def _guaranteed(row: dict[str, Any]) -> str:
    if missing(row["epsilon"]):
        return str(row["note"])
    text = f"epsilon of one run {row['epsilon']:.2f} ({row['unit']}, delta {row['delta']:.3g})"
    if not row["trials"]:
        return f"{text}; nothing was searched"
    text += f"; with the {row['trials']} trials of the search, which saw the same users: "
    if missing(row["epsilon_with_search"]):
        return text + str(row["note"])
    return text + f"at most {row['epsilon_with_search']:.2f}"


def _failures(cells: Cells) -> Iterator[str]:
    failed: pd.DataFrame = cells.failed
    if failed.empty:
        return
    names = [cells.at(*cell) for cell in cells if _lost(failed, cells, *cell)]
    yield (
        f"{count(len(failed), 'run')} failed ({_named(names)}); means are over the seeds that "
        "finished, and the errors are listed below."
    )


def _not_measured(cells: Cells) -> Iterator[str]:
    missed = cells.comparison.made.get("not_measured")
    if missed:
        yield f"Not measured: {_named([str(one) for one in missed])}."


def _lost(failed: pd.DataFrame, cells: Cells, name: str, setting: Setting) -> bool:
    same = failed["strategy"] == name
    for axis, value in zip(cells.comparison.axes, setting, strict=True):
        same &= failed[axis] == value
    return bool(same.any())
