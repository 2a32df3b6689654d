"""What a comparison shows and what it cannot show, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from fedsim.privacy.claims import Claim, together
from fedsim.report.comparison_cells import (
    SCORES,
    Cells,
    Measure,
    Setting,
    difference,
    holds_no_zero,
    p_value,
    resolved,
    shown,
)
from fedsim.report.comparison_leads import MOST_NAMED, best, leader, named, to_target
from fedsim.report.formats import count, missing
from fedsim.studies.comparison import Comparison
from fedsim.studies.ordering import LEAST_SEEDS
from fedsim.studies.origin import reservations
from fedsim.studies.server_optimizers import sentence

UNADJUSTED = (
    "The intervals of differences are not adjusted for the number of comparisons, the verdict is "
    "that of Holm's p, which is: an interval that does not hold zero may still not be resolved."
)
EDGE = 0.05  # of a range's length on its axis


def results(cells: Cells) -> list[str]:
    """What was found, the most wanted first."""
    if all(cells.runs(*cell).empty for cell in cells):
        return [_extent(cells), "No run finished, so there is nothing to compare."]
    return [
        _extent(cells),
        *best(cells),
        *_against_reference(cells),
        *to_target(cells),
        *_fairest(cells),
        *_leakage(cells),
    ]


def caveats(cells: Cells) -> list[str]:
    """What a reader must bear in mind: seeds, tuning, values at an edge, failed runs."""
    return [
        *_seeds(cells),
        *_unadjusted(cells),
        *_tuning(cells),
        *_optimizers(cells),
        *privacy(cells),
        *_failures(cells),
        *_one_evaluation(cells),
        *_canaries(cells),
        *cells.comparison.made.get("not_measured", ()),
        *reservations(cells.comparison.made),
    ]


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


def _against_reference(cells: Cells) -> Iterator[str]:
    """The paired differences to the first strategy, the largest first."""
    reference = cells.reference
    rows = [(cells.at(*cell), cells.row(*cell)) for cell in cells if cell[0] != reference]
    rows = [(name, row) for name, row in rows if not missing(row.get("difference"))]
    rows.sort(key=lambda pair: -abs(pair[1]["difference"]))
    if not rows:
        return
    tested = [(name, row) for name, row in rows if _tested(row)]
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
        yield f"Better than {reference}: {named(told[True], most)}."
    if told[False]:
        yield f"Worse than {reference}: {named(told[False], most)}."
    rest = [f"{name} {difference(row)}" for name, row in tested if not resolved(row)]
    if len(rest) > MOST_NAMED:
        yield f"Not resolved against {reference}: {len(rest)} differences, all in the table."
    elif rest:
        yield f"Not resolved against {reference}: {named(rest)}."
    unknown = [f"{name} {difference(row)}" for name, row in rows if not _tested(row)]
    if unknown:
        yield f"Points of test top-1 above {reference}, with no verdict: {named(unknown, most)}."


def _tested(row: dict[str, Any]) -> bool:
    return not missing(row.get("p")) and row["pairs"] >= LEAST_SEEDS


def _p(row: dict[str, Any]) -> str:
    text = p_value(row["p"])
    return text if text.startswith("<") else f"= {text}"


def _fairest(cells: Cells) -> Iterator[str]:
    """Who serves the worst-served tenth best."""
    column = "worst_decile_top1"
    yield from leader(cells, "Best for the worst-served tenth of users", column, SCORES[column])


def _leakage(cells: Cells) -> Iterator[str]:
    for column, measure in cells.leakage.items():
        name = f"Lowest {measure.name}"
        if all(_of_all_or_none(cells, setting, column, measure) for setting in cells.settings):
            yield from leader(cells, name, column, measure)
        else:
            yield f"{name}: not told, since not every strategy that finished has this figure."


def _of_all_or_none(cells: Cells, setting: Setting, column: str, measure: Measure) -> bool:
    measured = len(cells.ranked(setting, column, measure))
    return measured in (0, len(cells.ranked(setting, "top1", SCORES["top1"])))


def _seeds(cells: Cells) -> Iterator[str]:
    seeds = len(cells.comparison.seeds)
    if seeds == 1:
        yield ("One seed cannot say whether a difference is more than chance: there is no "
               "interval and no verdict.")  # fmt: skip
    elif seeds < LEAST_SEEDS:
        yield (f"{seeds} seeds resolve nothing: at least {LEAST_SEEDS} are needed for a verdict, "
               "and more show smaller differences.")  # fmt: skip
    elif seeds < 5:
        yield (f"{seeds} seeds give wide intervals: what is not resolved may still be there, and "
               "more seeds may show it.")  # fmt: skip


def _unadjusted(cells: Cells) -> Iterator[str]:
    """Where a reader would take an interval for a verdict that Holm's p does not give."""
    rows = [cells.row(*cell) for cell in cells]
    if any(_tested(row) and holds_no_zero(row) and not resolved(row) for row in rows if row):
        yield UNADJUSTED


def selected_privately(compared: Comparison) -> str:
    """How cells were tuned whose search is part of what is guaranteed; "" where there are none."""
    tuning = compared.made.get("tuning") or {}
    if not tuning.get("private"):
        return ""
    return (
        f"Tuned by private selection: {'; '.join(tuning['private'])}, with a Poisson number of "
        f"trials, {tuning['trials']} in the mean, of values drawn at random, each trained to its "
        "end; validation users chose. Of these trials nothing is told here, but how many they were "
        "where an epsilon is their composition: keep tuning.db and cells/ to yourself."
    )


def _tuning(cells: Cells) -> Iterator[str]:
    compared = cells.comparison
    private = selected_privately(compared)
    if private:
        yield private
    if not compared.trials.empty:
        yield from _openly_tuned(compared)
    elif not private:
        yield (
            "Nothing was tuned: every strategy ran with the values of the config, which may "
            "suit some better than others."
        )
    yield from _edges(cells)


def _openly_tuned(compared: Comparison) -> Iterator[str]:
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
    fixed = [s for s in compared.strategies if s not in set(compared.chosen["strategy"])]
    if fixed:
        yield f"Without a search, with the values of the config: {', '.join(fixed)}."


def _optimizers(cells: Cells) -> Iterator[str]:
    found = cells.comparison.made.get("server_optimizers")
    if found:
        yield sentence(found)


def _edges(cells: Cells) -> Iterator[str]:
    compared = cells.comparison
    edges = []
    for row in compared.chosen.to_dict("records"):
        if at_edge(row["value"], row["low"], row["high"]):
            cell = cells.at(row["strategy"], tuple(row[axis] for axis in compared.axes))
            edges.append(f"{row['key']} = {shown(row['value'])} of {cell}")
    if edges:
        yield f"Chosen at an edge of its range, where a wider one may do better: {named(edges)}."


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
        yield f"Privacy of {named(names, 4)}: {text}."


def _guaranteed(row: dict[str, Any]) -> str:
    claim = Claim.of_row(row)
    if claim is None:
        return str(row["note"])
    text = claim.sentence("epsilon of one run").removesuffix(".")
    if missing(row["epsilon_with_search"]):
        return f"{text}. {row['note']}"
    if row["trials"]:
        one = together(claim, row, "epsilon_with_search")
        text += f". With its search, {_searched(row)}: epsilon at most {_by(one)}"
    else:
        text += ". Nothing was searched"
    return f"{text}. All that is published, every seed: epsilon at most " + (
        _by(together(claim, row, "epsilon_of_all"))
    )


def _by(claim: Claim) -> str:
    """The figure, for whom, and by which theorem; the rest is as for one run."""
    return f"{claim.short}, at the same delta, by {claim.accountant}"


def _searched(row: dict[str, Any]) -> str:
    """How many trials saw the same users, of a private selection in the mean."""
    if row.get("private"):
        return f"a Poisson number of trials that saw the same users, {row['trials']} in the mean"
    return f"whose {count(int(row['trials']), 'trial')} saw the same users"


def _failures(cells: Cells) -> Iterator[str]:
    failed: pd.DataFrame = cells.failed
    if failed.empty:
        return
    names = [cells.at(*cell) for cell in cells if _lost(failed, cells, *cell)]
    yield (
        f"{count(len(failed), 'run')} failed ({named(names)}); means are over the seeds that "
        "finished, and the errors are listed below."
    )


def _one_evaluation(cells: Cells) -> Iterator[str]:
    """Where rounds and bytes to the target are those of the whole run, whoever is faster."""
    compared = cells.comparison
    if not compared.target or compared.curves.empty:
        return
    runs = compared.curves.groupby(["strategy", *compared.axes, "seed"])
    if (runs["round"].nunique() == 1).all():
        yield (
            "Rounds to the target cannot be told apart: each run was evaluated in one round only, "
            "its last; lower evaluation.every."
        )


def _canaries(cells: Cells) -> Iterator[str]:
    """Of how many canaries an exposure is the mean: that of one is luck."""
    trained = cells.all_values("canaries_trained")
    known, none = trained[trained > 0], int((trained == 0).sum())
    if len(known):
        low, high = int(known.min()), int(known.max())
        over = count(high, "canary", "canaries") if low == high else f"{low} to {high} canaries"
        whose = "holder" if high == 1 else "holders"
        yield f"Exposure is a mean over {over} whose {whose} took part, by run."
    if none:
        yield (
            f"In {none} of {count(len(trained), 'run')} no canary's holder was drawn: such runs "
            "have no exposure, and neither has a mean over seeds with them."
        )


def _lost(failed: pd.DataFrame, cells: Cells, name: str, setting: Setting) -> bool:
    same = failed["strategy"] == name
    for axis, value in zip(cells.comparison.axes, setting, strict=True):
        same &= failed[axis] == value
    return bool(same.any())
