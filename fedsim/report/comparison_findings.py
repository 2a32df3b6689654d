"""What a comparison shows and what it cannot show, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from fedsim.report.comparison_cells import (
    SCORES, Cells, Measure, Setting, difference, p_value, points, resolved, shown, with_half,
)  # fmt: skip
from fedsim.report.formats import count, missing, number, percent, size

MOST_NAMED = 12  # differences told one by one; more are counted
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
    return [*_seeds(cells), *_tuning(cells), *_failures(cells)]


def _extent(cells: Cells) -> str:
    compared = cells.comparison
    runs = compared.runs
    finished = int((runs["state"] == "finished").sum())
    text = count(len(compared.strategies), "strategy", "strategies")
    if compared.axes:
        text += f" at {count(len(cells.settings), 'setting')} of {', '.join(compared.axes)}"
    rounds = runs["rounds"].dropna()
    if len(rounds):
        low, high = int(rounds.min()), int(rounds.max())
        text += f", {low:,} rounds" if low == high else f", {low:,} to {high:,} rounds"
    return f"{text}, {count(len(compared.seeds), 'seed')}: {finished} of {len(runs)} runs finished."


def _best(cells: Cells) -> Iterator[str]:
    """Who has the highest mean, and whether that is more than chance."""
    measure = SCORES["top1"]
    for setting in cells.settings:
        best = cells.best(setting, "top1", measure)
        if best is None:
            yield f"No strategy has a finished run at {cells.named(setting)}."
            continue
        row = cells.row(best, setting)
        where = f" at {cells.named(setting)}" if setting else ""
        text = f"{best} has the highest mean top-1 on the test users{where}: "
        text += f"{with_half(row, 'top1', measure)} %"
        second = _second(cells, setting, best)
        if second is not None:
            lead = row["top1"] - cells.row(second, setting)["top1"]
            text += f", {points(lead).lstrip('+')} points above {second}"
            text += f"; {_lead(cells, setting, 'top1', measure)}"
        yield f"{text}."


def _second(cells: Cells, setting: Setting, best: str) -> str | None:
    means = {s: cells.row(s, setting).get("top1") for s in cells.comparison.strategies}
    others = {s: v for s, v in means.items() if s != best and not missing(v)}
    return max(others, key=lambda s: others[s]) if others else None


def _lead(cells: Cells, setting: Setting, column: str, measure: Measure) -> str:
    runs = [cells.runs(s, setting) for s in cells.comparison.strategies]
    if any(len(own) == 1 for own in runs):
        return "one seed gives no verdict on its lead"
    if cells.leads(setting, column, measure):
        return "its lead over every other strategy is resolved"
    return "its lead over the others is not resolved"


def _against_reference(cells: Cells) -> Iterator[str]:
    """The paired differences to the first strategy, those that are resolved first."""
    better, worse, unclear, unknown = [], [], [], []
    for name, setting in cells:
        row = cells.row(name, setting)
        if name == cells.reference or missing(row.get("difference")):
            continue
        told = f"{cells.at(name, setting)} {difference(row)}"
        if missing(row.get("p")):
            unknown.append(told)
        elif not resolved(row):
            unclear.append(told)
        else:
            told += f", p {_p(row)}"
            (better if row["difference"] > 0 else worse).append(told)
    total = len(better) + len(worse) + len(unclear)
    reference = cells.reference
    if total:
        yield (
            f"Against {reference}, {len(better) + len(worse)} of {count(total, 'difference')} in "
            "test top-1 are resolved (points, paired by seed, 95 % interval; Holm's p below 0.05)."
        )
    if better:
        yield f"Better than {reference}: {_named(better)}."
    if worse:
        yield f"Worse than {reference}: {_named(worse)}."
    if unclear:
        yield f"Not resolved against {reference}: {_named(unclear)}."
    if unknown:
        yield f"Points of test top-1 above {reference}, with no verdict: {_named(unknown)}."


def _p(row: dict[str, Any]) -> str:
    text = p_value(row["p"])
    return text if text.startswith("<") else f"= {text}"


def _named(told: Sequence[str]) -> str:
    rest = len(told) - MOST_NAMED
    text = "; ".join(told[:MOST_NAMED])
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
        rounds = min(always, key=lambda cell: _mean(cells, cell, "rounds_to_target"))
        uploaded = min(always, key=lambda cell: _mean(cells, cell, "bytes_to_target"))
        text = f"{cells.at(*rounds)} gets to {goal} in the fewest rounds on average"
        text += f" ({number(_mean(cells, rounds, 'rounds_to_target'), 1)})"
        text += " and the" if uploaded == rounds else f", {cells.at(*uploaded)} with the"
        yield (
            f"{text} fewest uploaded bytes ({size(_mean(cells, uploaded, 'bytes_to_target'))}); "
            "differences in cost are not tested."
        )
    else:
        yield f"No cell gets to {goal} in every run."
    if never:
        yield f"Not always at {goal}: {_named(never)}."


def reached(cells: Cells, strategy: str, setting: Setting) -> tuple[int, int]:
    """How many of the cell's finished runs got to the target, and of how many."""
    runs = cells.runs(strategy, setting)
    return int(runs["rounds_to_target"].notna().sum()), len(runs)


def _mean(cells: Cells, cell: tuple[str, Setting], column: str) -> float:
    value = cells.row(*cell).get(column)
    return math.inf if missing(value) else float(value)  # type: ignore[arg-type]


def _fairest(cells: Cells) -> Iterator[str]:
    """Who serves the worst-served tenth best."""
    column = "worst_decile_top1"
    measure = SCORES[column]
    for setting in cells.settings:
        best = cells.best(setting, column, measure)
        if best is None:
            continue
        value = with_half(cells.row(best, setting), column, measure)
        where = f" at {cells.named(setting)}" if setting else ""
        alone = len(cells.comparison.strategies) == 1
        verdict = "" if alone else f"; {_lead(cells, setting, column, measure)}"
        yield (
            f"The worst-served tenth of users gets most from {best}{where}: {value} % top-1"
            f"{verdict}."
        )


def _leakage(cells: Cells) -> Iterator[str]:
    for column, measure in cells.leakage.items():
        for setting in cells.settings:
            least = cells.best(setting, column, measure)
            if least is None or len(cells.comparison.strategies) == 1:
                continue
            value = with_half(cells.row(least, setting), column, measure)
            where = f" at {cells.named(setting)}" if setting else ""
            verdict = _lead(cells, setting, column, measure)
            yield f"Lowest {measure.name}{where}: {least}, {value} {measure.unit}; {verdict}."


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
    if compared.chosen.empty:
        yield ("Nothing was tuned: every strategy ran with the values of the config, which may "
               "suit some better than others.")  # fmt: skip
        return
    trials = compared.trials.groupby(["strategy", *compared.axes]).size()
    if trials.nunique() == 1:
        yield (f"Each strategy was tuned with {count(int(trials.iloc[0]), 'trial')} on validation "
               "users; test users had no say in it.")  # fmt: skip
    else:
        yield (f"The tuning was not equal: {int(trials.min())} to {int(trials.max())} trials; "
               "run the same command again to complete it.")  # fmt: skip
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


def _failures(cells: Cells) -> Iterator[str]:
    failed: pd.DataFrame = cells.failed
    if failed.empty:
        return
    names = [cells.at(*cell) for cell in cells if _lost(failed, cells, *cell)]
    yield (
        f"{count(len(failed), 'run')} failed ({_named(names)}); means are over the seeds that "
        "finished, and the errors are listed below."
    )


def _lost(failed: pd.DataFrame, cells: Cells, name: str, setting: Setting) -> bool:
    same = failed["strategy"] == name
    for axis, value in zip(cells.comparison.axes, setting, strict=True):
        same &= failed[axis] == value
    return bool(same.any())
