"""The cards of a report's leakage part: one for each measure that was taken."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from fedsim.leakage.base import Measure
from fedsim.leakage.measures import MEASURES
from fedsim.report import leakage_plots as plots
from fedsim.report.formats import MISSING, whole
from fedsim.report.leakage import Leakage, title_of
from fedsim.report.leakage_rows import Row
from fedsim.report.leakage_rules import Conclusion, conclusion
from fedsim.report.leakage_sentences import Sentences, sentences_of
from fedsim.report.leakage_words import ends, level_of, of_whom, phrase, value

FEWEST = 3  # units behind a figure that is put before others
FIRST = 8  # rows of a card's table before the folded ones
PANELS = 3  # heat maps of rounds beside the last one's
WITH_ROC = ("membership", "user_membership", "shadows")
# Of the heat maps: the sampled one is in the run's own table already.
EXPOSURES = {"exact": "exact_exposure_bits", "sampled": "exposure_bits"}


@dataclass(frozen=True)
class Card:
    """One measure for the page."""

    name: str
    title: str
    threat: str
    meaning: str
    round: int
    conclusion: str
    points: Sequence[str]  # the same in parts, where it has several
    promise: str  # what the line of what epsilon allows stands for; "" where there is none
    plots: Sequence[Markup]
    first: Sequence[dict[str, Any]]
    folded: Sequence[dict[str, Any]]
    sentences: Sentences | None


def card(leakage: Leakage, name: str, unmask: bool) -> Card:
    """That of a measure which was taken. unmask: show what people typed."""
    rows = leakage.rows(name)
    found = conclusion(name, rows)
    told = [_told(row) for row in telling(rows, found)]
    known = _measure(name)
    return Card(
        name,
        title_of(name),
        known.threat if known else leakage.threat(name),
        known.meaning if known else "",
        leakage.rounds(name)[-1],
        found.text,
        found.points,
        _promise(leakage, name),
        [*_plots(leakage, name, rows), *_curves(leakage, name, found)],
        told[:FIRST],
        told[FIRST:],
        sentences_of(leakage.run, name, unmask),
    )


def _promise(leakage: Leakage, name: str) -> str:
    ceiling = leakage.ceiling if name in WITH_ROC else None
    if ceiling is None:
        return ""
    return f"In the plots the most that epsilon allows any attack: {ceiling.sentence('epsilon')}"


def _plots(leakage: Leakage, name: str, rows: Sequence[Row]) -> Iterator[Markup]:
    if name == "canaries":
        yield from _heat(leakage)
    elif name in WITH_ROC:
        curves = leakage.run.detail(name, "roc")
        if curves is not None and _holds(curves, "score", "fpr", "tpr"):
            named = curves.assign(score=curves["score"].astype(str))
            yield from plots.roc_curves(named, leakage.ceiling)
    elif name == "updates":
        yield from plots.defences(rows)
    elif name == "compression":
        yield from plots.copies(rows)
    elif name == "epsilon":
        found = plots.epsilons(rows)
        if found is not None:
            yield found


def _heat(leakage: Leakage) -> Iterator[Markup]:
    """The exposure of each cell of the grid, after the last round and some before it."""
    rounds = leakage.rounds("canaries")
    some = rounds[:: max(1, math.ceil((len(rounds) - 1) / PANELS))][:PANELS]
    grids = {}
    for round in [*dict.fromkeys([*some, rounds[-1]])]:
        rows = leakage.rows("canaries", round)
        found = {kind: plots.cells_of(rows, name) for kind, name in EXPOSURES.items()}
        kind = next((kind for kind, cells in found.items() if cells), "")
        if kind:
            extracted = plots.cells_of(rows, "extraction_rate", "greedy")
            grids[round] = kind, found[kind], extracted
    values = [row.estimate for _, cells, _ in grids.values() for row in cells.values()]
    most = max([plots.SCALE_BITS, *values])
    for round, (kind, cells, extracted) in grids.items():
        title = f"round {round}: mean {kind} exposure, bits"
        yield plots.exposure_heat(title, cells, extracted, most, f"{round}")


def _curves(leakage: Leakage, name: str, found: Conclusion) -> Iterator[Markup]:
    """The figures of the conclusion over the rounds, where there were several."""
    rounds = leakage.rounds(name)
    if len(rounds) < 2:
        return
    history = {round: leakage.rows(name, round) for round in rounds}
    for row in found.rows[:2]:
        line = [
            (round, other)
            for round, rows in history.items()
            for other in rows
            if (other.quantity, other.group) == (row.quantity, row.group) and other.known
        ]
        if len(line) > 1:
            yield plots.by_round(phrase(row.quantity).split(":")[0], line)


def telling(rows: Sequence[Row], found: Conclusion) -> list[Row]:
    """The conclusion's rows first, then those whose interval leaves chance out, then the rest."""

    def tier(row: Row) -> int:
        if row in found.rows:
            return 0
        if not row.known:
            return 3
        away = row.n >= FEWEST and row.side(level_of(row.quantity, row.control))
        return 1 if away else 2

    return sorted(rows, key=tier)


def _measure(name: str) -> type[Measure] | None:
    """A measure, where this build knows it."""
    return MEASURES[name] if name in MEASURES else None  # noqa: SIM401 (a registry has no get)


def _told(row: Row) -> dict[str, Any]:
    """A finding's cells."""
    return {
        "quantity": phrase(row.quantity),
        "whom": of_whom(row.group),
        "estimate": value(row.quantity, row.estimate),
        "interval": "all alike" if row.alike else ends(row.quantity, row.low, row.high),
        "method": "" if row.alike else row.interval,
        "n": whole(row.n) if row.n else MISSING,
        "control": value(row.quantity, row.control),
        "note": row.note,
    }


def _holds(table: pd.DataFrame, text: str, *numbers: str) -> bool:
    """Whether a detail has the columns that a plot needs, and numbers where they should be."""
    if not {text, *numbers} <= set(table.columns) or table.empty:
        return False
    return all(pd.api.types.is_numeric_dtype(table[name]) for name in numbers)
