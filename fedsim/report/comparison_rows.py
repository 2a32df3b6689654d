"""The tables of a comparison's report: header and rows of text."""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

from fedsim.privacy.claims import THEOREMS, Claim, notes, together
from fedsim.report.comparison_cells import (
    SCORES,
    Cells,
    Measure,
    Setting,
    difference,
    p_value,
    shown,
    with_half,
)  # fmt: skip
from fedsim.report.comparison_findings import UNADJUSTED, at_edge
from fedsim.report.comparison_leads import reached
from fedsim.report.formats import MISSING, duration, missing, number, size

Table = tuple[list[str], list[list[str]]]
BOLD = (
    "Bold: the best mean among the strategies at the same axes, only where the differences to all "
    "others, paired by three seeds or more, have p below 0.05 (two-sided t-test, times the number "
    "of others)."
)
OF_ONE_AND_ALL = ("epsilon of one run", "epsilon, search included", "epsilon, all seeds")
_WITH_INTERVAL = re.compile(r"(\S+) (± \S+|\(\S+ to \S+\))")


class Bold(str):
    """A cell that stands out."""


def caption(cells: Cells) -> str:
    """What the numbers of the summary are."""
    seeds = cells.comparison.seeds
    reference = cells.reference
    if len(seeds) == 1:
        intervals = "One seed, so no intervals and no tests."
    else:
        intervals = (
            "Means over seeds ± half the width of the 95 % interval (Student's t over seeds), on "
            "test users; of perplexity the geometric mean and its interval, made on logarithms. "
            "Difference: top-1 in percentage points against "
            f"{reference} at the same axes, paired by seed, with its 95 % interval; p of the "
            "paired t-test, adjusted by Holm over the comparisons of the table. "
            f"{UNADJUSTED} {BOLD}"
        )
        if len(cells.settings) > 1:
            intervals += (
                " Each setting is tested by itself: leads are not corrected for the number of "
                "settings, and among many some are there by chance."
            )
    text = f"{intervals} Worst tenth: mean top-1 of the tenth of users that it is lowest for."
    if any(axis.startswith("privacy.") for axis in cells.comparison.axes):
        text = f"{text} {privacy_note(cells)}"
    return text


def summary(cells: Cells) -> Table:
    """One row a cell: the scores on test users with the difference to the reference, and what
    leaked."""
    (header, rows), (more, leaked) = scores(cells), leakage(cells)
    known = 1 + len(cells.comparison.axes)
    return header + more[known:], [
        row + other[known:] for row, other in zip(rows, leaked, strict=True)
    ]


def scores(cells: Cells) -> Table:
    """One row a cell: the scores on test users and the difference to the reference."""
    header, lines = _measured(cells, SCORES)
    place = 2 + len(cells.comparison.axes)  # behind top-1
    header[place:place] = [f"against {cells.reference}, points", "p (Holm)"]
    header.insert(place - 1, "seeds")
    rows = []
    for (name, setting), line in zip(cells, lines, strict=True):
        row = cells.row(name, setting)
        against = [difference(row), p_value(row.get("p"))]
        if name == cells.reference:
            against = ["reference", MISSING]
        line[place:place] = against
        line.insert(place - 1, _seeds(cells, name, setting))
        rows.append(line)
    return header, rows


def leakage(cells: Cells) -> Table:
    """One row a cell: what its models give away."""
    return _measured(cells, cells.leakage)


def _measured(cells: Cells, measures: dict[str, Measure]) -> Table:
    """One row a cell: its name, and the mean of each measure, bold where it leads."""
    header = ["strategy", *cells.comparison.axes, *(m.title for m in measures.values())]
    winners = _winners(cells, measures)
    rows = []
    for name, setting in cells:
        line = [name, *map(shown, setting)]
        for column, measure in measures.items():
            text = with_half(cells.row(name, setting), column, measure)
            line.append(Bold(text) if winners.get((column, setting)) == name else text)
        rows.append(line)
    return header, rows


def _winners(cells: Cells, measures: dict[str, Measure]) -> dict[tuple[str, Setting], str | None]:
    return {
        (column, setting): cells.best(setting, column, measure)
        for column, measure in measures.items()
        for setting in cells.settings
        if cells.leads(setting, column, measure)
    }


def _seeds(cells: Cells, name: str, setting: Setting) -> str:
    """3; where some failed: 2 of 3."""
    finished, asked = len(cells.runs(name, setting)), len(cells.comparison.seeds)
    return str(finished) if finished == asked else f"{finished} of {asked}"


def costs(cells: Cells) -> Table:
    """One row a cell: rounds and bytes to the target, and of the whole run."""
    goal = cells.comparison.target is not None
    header = ["strategy", *cells.comparison.axes]
    if goal:
        header += ["reached by", "rounds to target", "upload to target", "download to target"]
    header += ["rounds", "upload", "download", "tokens", "time of a run"]
    rows = []
    for name, setting in cells:
        row = cells.row(name, setting)
        line = [name, *map(shown, setting)]
        if goal:
            line += to_target(cells, name, setting)
        line += [number(row.get("rounds"), 0), size(row.get("upload_bytes")),
                 size(row.get("download_bytes")), number(row.get("tokens"), 0),
                 MISSING if missing(row.get("seconds")) else duration(row["seconds"])]  # fmt: skip
        rows.append(line)
    return header, rows


def to_target(cells: Cells, name: str, setting: Setting) -> list[str]:
    """Of how many runs, rounds and bytes up and down; a dash where none got there."""
    row = cells.row(name, setting)
    got, asked = reached(cells, name, setting)
    if not asked:
        return [MISSING] * 4
    if got < asked:
        return [
            f"{got} of {asked}",
            *(["not always" if got else "never"] * 3),
        ]
    rounds = with_half(row, "rounds_to_target", Measure("rounds", "", 1, 1))
    sent = (size(row.get(f"{way}_to_target")) for way in ("bytes", "download"))
    return [f"{got} of {asked}", rounds, *sent]


def chosen(cells: Cells) -> Table:
    """What the search chose, within what."""
    axes = cells.comparison.axes
    rows = [
        [
            row["strategy"],
            *(shown(row[axis]) for axis in axes),
            row["key"],
            shown(row["value"]),
            f"{shown(row['low'])} to {shown(row['high'])}",
            "yes" if at_edge(row["value"], row["low"], row["high"]) else "no",
        ]
        for row in cells.comparison.chosen.to_dict("records")
    ]
    return ["strategy", *axes, "key", "chosen", "range, log", "at an edge"], rows


def trials(cells: Cells) -> Table:
    """Every trial of the search as it went; columns of keys that a strategy has not are dashes."""
    frame = cells.comparison.trials
    header = ["validation top-1, %" if name == "top1" else str(name) for name in frame.columns]
    rows = []
    for row in frame.to_dict("records"):
        row["top1"] = None if missing(row["top1"]) else round(100 * row["top1"], 2)
        rows.append([shown(_plain(value)) for value in row.values()])
    return header, rows


def _plain(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) and not missing(value) else value


def privacy(cells: Cells) -> Table:
    """What a run of each private cell guarantees, alone and with the trials of its search; to be
    read with `privacy_note`."""
    axes = cells.comparison.axes
    rows = [
        [row["strategy"], *(shown(row[axis]) for axis in axes), row["mechanism"], *_epsilons(row),
         _trials(row), row["note"] or MISSING]
        for row in cells.comparison.privacy.to_dict("records")
    ]  # fmt: skip
    return ["strategy", *axes, "mechanism", *OF_ONE_AND_ALL, "trials", "note"], rows


def _trials(row: dict[str, Any]) -> str:
    """How many; of a private selection the mean, which is all that is told."""
    return f"Poisson, {row['trials']} in the mean" if row.get("private") else str(row["trials"])


def theorems_note(cells: Cells) -> str:
    """By which theorem the epsilons of several runs are, once for the cells of which it is so."""
    axes, whose = cells.comparison.axes, dict[str, list[str]]()
    for row in cells.comparison.privacy.to_dict("records"):
        search, seeds = (str(row.get(name) or "") for name in THEOREMS.values())
        told = f"search included: {search}; all seeds: {seeds}"
        if search == seeds:
            told = f"search included, and all seeds: {search}"
        elif not search:
            told = f"all seeds: {seeds}"
        if search or seeds:
            cell = cells.at(row["strategy"], tuple(row[axis] for axis in axes))
            whose.setdefault(told, []).append(cell)
    return " ".join(f"By theorem, {', '.join(names)}: {told}." for told, names in whose.items())


def _epsilons(row: dict[str, Any]) -> tuple[str, ...]:
    """Of one run, with its search, and with all seeds too, each with for whom it holds."""
    claim = Claim.of_row(row)
    if claim is None:
        return MISSING, MISSING, MISSING
    more = ("epsilon_with_search", "epsilon_of_all")
    return claim.short, *(
        MISSING if missing(row[name]) else together(claim, row, name).short for name in more
    )


def privacy_note(cells: Cells) -> str:
    """What the epsilons of the cells depend on: told once for those that depend on the same."""
    rows = cells.comparison.privacy.to_dict("records")
    axes = cells.comparison.axes
    claims = ((row, Claim.of_row(row)) for row in rows)
    named = [
        (cells.at(row["strategy"], tuple(row[axis] for axis in axes)), claim)
        for row, claim in claims
        if claim is not None
    ]
    return " ".join(notes(named))


def failures(cells: Cells) -> Table:
    """Every run that did not finish, with its error."""
    axes = cells.comparison.axes
    rows = [
        [row["strategy"], *(shown(row[axis]) for axis in axes), str(row["seed"]),
         shown(row["error"])]
        for row in cells.failed.to_dict("records")
    ]  # fmt: skip
    return ["strategy", *axes, "seed", "error"], rows


def as_html(table: Table, *wrapped: str) -> Table:
    """The cells for the page: bold ones marked up, an interval in a line below its mean, config
    keys that may break at their dots, the columns `wrapped` in as many lines as it takes."""
    header, rows = table
    strong, text = Markup("<strong>{}</strong>"), Markup('<div class="text">{}</div>')
    below = Markup("{} <small>{}</small>")

    def cell(name: str, value: str) -> str:
        if name in wrapped:
            return text.format(value)
        found = _WITH_INTERVAL.fullmatch(value)
        mean, interval = found.groups() if found else (str(value), "")
        mean = strong.format(mean) if isinstance(value, Bold) else mean
        return below.format(mean, interval) if interval else mean

    lines = [[cell(n, v) for n, v in zip(header, row, strict=True)] for row in rows]
    return [_heading(name) for name in header], lines


def _heading(name: str) -> Markup:
    """A browser breaks it at spaces and behind the dots of a config key, not at hyphens."""
    whole = Markup('<span style="white-space:nowrap">{}</span>')
    words = (whole.format(w) if "-" in w else Markup.escape(w) for w in name.split(" "))
    return Markup(" ").join(words).replace(".", Markup(".<wbr>"))


def as_markdown(table: Table) -> str:
    """A table of GitHub's Markdown; what would end a cell or a row is escaped."""
    header, rows = table

    def cell(value: str) -> str:
        text = " ".join(value.replace("|", "\\|").split())
        return f"**{text}**" if isinstance(value, Bold) else text

    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)
