"""A comparison of strategies as a page, as tables for a paper, and as Parquet."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from fedsim.files import write_atomically
from fedsim.report import comparison_dots as dots
from fedsim.report import comparison_plots as plots
from fedsim.report import comparison_rows as tables
from fedsim.report.comparison_cells import Cells
from fedsim.report.comparison_checklist import as_checklist
from fedsim.report.comparison_findings import caveats, results
from fedsim.report.comparison_latex import as_latex
from fedsim.report.formats import percent
from fedsim.report.study_page import Section, study_page
from fedsim.report.tables import flat
from fedsim.studies.comparison import Comparison

FOLDED = 12  # rows of trials that a page shows at once


def write_comparison(folder: Path, comparison: Comparison, table: pd.DataFrame) -> Path:
    """Write `runs.parquet`, `curves.parquet`, `comparison.md`, `comparison.tex` and
    `comparison.html`; returns the last. `table` is `contrasts.summary` of the comparison."""
    for name in ("runs", "curves"):
        write_atomically(folder / f"{name}.parquet", _parquet(getattr(comparison, name)))
    write_atomically(folder / "comparison.md", markdown(comparison, table).encode())
    write_atomically(folder / "comparison.tex", latex(comparison, table).encode())
    path = folder / "comparison.html"
    write_atomically(path, _page(Cells(comparison, table)).encode())
    return path


def findings(comparison: Comparison, table: pd.DataFrame) -> list[str]:
    """What it shows and what it cannot show, in sentences."""
    cells = Cells(comparison, table)
    return results(cells) + caveats(cells)


def markdown(comparison: Comparison, table: pd.DataFrame) -> str:
    """The summary with what a reader must know of it, the costs, the failures."""
    cells = Cells(comparison, table)
    parts = [
        "\n".join(f"- {sentence}" for sentence in results(cells) + caveats(cells)),
        tables.as_markdown(tables.summary(cells)),
        tables.caption(cells),
        tables.as_markdown(tables.costs(cells)),
        _cost_note(cells),
    ]
    if len(comparison.privacy):
        parts += ["Privacy:", tables.as_markdown(tables.privacy(cells)), _private(cells)]
    if len(cells.failed):
        parts += ["Failed:", tables.as_markdown(tables.failures(cells))]
    return "\n\n".join(parts) + "\n"


def latex(comparison: Comparison, table: pd.DataFrame) -> str:
    """The summary as a table with booktabs."""
    return as_latex(Cells(comparison, table))


def checklist(comparison: Comparison) -> str:
    """What reproducibility checklists ask, in Markdown."""
    return as_checklist(Cells(comparison, pd.DataFrame()))


def _parquet(frame: pd.DataFrame) -> bytes:
    """Columns of mixed kinds, such as an axis of 1 and "auto", become text."""
    mixed = [
        name
        for name in frame
        if pd.api.types.is_object_dtype(frame[name])
        and len({type(value) for value in frame[name].dropna()}) > 1
    ]
    buffer = io.BytesIO()
    frame.astype(dict.fromkeys(mixed, "string")).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _page(cells: Cells) -> str:
    names = cells.comparison.strategies
    title = f"{' and '.join(names) if len(names) < 3 else f'{len(names)} strategies'} compared"
    sections = [*_measured(cells), *_made(cells)]
    return study_page(title, results(cells), [], "", sections, caveats(cells))


def _measured(cells: Cells) -> Iterator[Section]:
    """What the runs showed."""
    yield _pinned("Scores on test users", tables.scores(cells), plots=list(dots.final(cells)),
                  note=f"{tables.caption(cells)} {_DOTS}")  # fmt: skip
    learning = [*plots.learning(cells, "round"), *plots.learning(cells, "upload_bytes")]
    yield Section("Learning curves", plots=learning, note=_curves_note(cells))
    yield _pinned("Cost", tables.costs(cells), plots=_cost_plots(cells), note=_cost_note(cells))
    yield Section("Fairness", plots=list(dots.fairness(cells)), note=_FAIR)
    if cells.leakage:
        yield _pinned("Leakage against utility", tables.leakage(cells),
                      plots=list(plots.leakage(cells)), note=_LEAKAGE)  # fmt: skip


def _made(cells: Cells) -> Iterator[Section]:
    """What they guarantee, what failed, what was chosen, and how all was made."""
    compared = cells.comparison
    if len(compared.privacy):
        yield _pinned("Privacy", tables.privacy(cells), *tables.OF_ONE_AND_ALL, "note",
                      note=_private(cells))  # fmt: skip
    if len(cells.failed):
        yield Section("What failed", *tables.as_html(tables.failures(cells), "error"))
    if len(compared.chosen):
        yield _pinned("Chosen hyper-parameters", tables.chosen(cells), note=_EDGE)
    if len(compared.trials):
        folded = len(compared.trials) > FOLDED
        yield _pinned("Trials of the search", tables.trials(cells), folded=folded)
    made = [[key, value] for key, value in flat(compared.made)]
    yield Section("Made with", *tables.as_html((["what", "value"], made), "value"), folded=True)


def _pinned(title: str, table: tables.Table, *wrapped: str, **more: Any) -> Section:
    """A wide table, its columns `wrapped` in as many lines as it takes."""
    return Section(title, *tables.as_html(table, *wrapped), pinned=True, **more)


def _cost_plots(cells: Cells) -> list[Markup]:
    if cells.comparison.target is None:
        return []
    return [*dots.rounds_to_target(cells), *dots.bytes_to_target(cells)]


def _cost_note(cells: Cells) -> str:
    target = cells.comparison.target
    goal = ""
    if target is not None:
        goal = (
            f"The target is {percent(target)} top-1 on validation users, looked at in every "
            "evaluated round; rounds and bytes to it are means over runs, and not given where one "
            "did not get there: a mean of the others would flatter. "
        )
    return (
        f"{goal}Bytes are of all clients of a run together; time is that of the simulation and "
        "says nothing about phones."
    )


def _private(cells: Cells) -> str:
    said = (tables.privacy_note(cells), tables.theorems_note(cells), _PRIVATE)
    return " ".join(filter(None, said))


def _curves_note(cells: Cells) -> str:
    text = "Mean over seeds on validation users"
    if len(cells.comparison.seeds) > 1:
        text += ", with the band of its 95 % interval (Student's t)"
    if cells.comparison.target is not None:
        text += "; dotted: the target"
    return f"{text}. The first, steep rounds may be below the axis, which no curve's end is."


_DOTS = "In the plots, small strokes are single seeds; an interval may go on beyond the axis."
_FAIR = (
    "Open mark: mean top-1 of the tenth of the test users that it is lowest for; filled: over all "
    "of their words. A short line is a model that serves all alike, well or badly."
)
_LEAKAGE = (
    "The adversary holds the final model. A mark further right suggests better words, a lower one "
    "gives less away; thin lines are 95 % intervals over seeds. Bold: as in the "
    "table of scores."
)
_PRIVATE = (
    "Search included: one run together with the trials of its cell's search, which saw the same "
    "users; a trial that was stopped early or failed counts as a whole run. All seeds: every run "
    "of the cell that is published, and its search. Whoever sees several cells sees more of the "
    "same users than any row says: `privacy compose` of their runs gives the whole."
)
_EDGE = "At an edge: in the outer 5 % of the range, so that a wider one may hold something better."
