"""A reproduced finding as a page, as Markdown and as CSV: claim, rule, verdict, both figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from fedsim.files import write_atomically
from fedsim.program import command_for_pages
from fedsim.report.study_page import Section, study_page
from fedsim.report.svg import COLOURS, house_style, label_ends, panel, to_svg
from fedsim.report.tables import flat
from fedsim.studies.findings.base import Finding, Measured, Outcome
from fedsim.studies.origin import SECONDS, reservations

CAPTION = "Top-1 recall on validation users; bands go from the lowest to the highest seed."
LONG = 40  # characters of a cell, more of which are set in several lines
# Never by colour alone: every arm has its line style and mark too.
LOOKS: tuple[tuple[str, Any, str], ...] = (
    ("federated", "-", "o"),
    ("trigram", (0, (5, 2)), "s"),
    ("central", (0, (1.5, 1.5)), "^"),
    ("other", "-.", "D"),
)


def write_reproduction(
    folder: Path,
    name: str,
    finding: Finding,
    measured: Measured,
    outcome: Outcome,
    settings: str,
    made: Mapping[str, Any],
) -> Path:
    """Write `NAME.csv` (a row a cell), `NAME-curves.csv` where there are curves, `NAME.md` and
    `NAME.html`; returns the page. settings: in a sentence; made: see `origin_of_all`."""
    write_atomically(folder / f"{name}.csv", measured.rows.to_csv(index=False).encode())
    if len(measured.curves):
        text = measured.curves.to_csv(index=False)
        write_atomically(folder / f"{name}-curves.csv", text.encode())
    text = markdown(name, finding, outcome, settings, made)
    write_atomically(folder / f"{name}.md", text.encode())
    path = folder / f"{name}.html"
    write_atomically(path, _page(finding, measured, outcome, settings, made).encode())
    return path


def markdown(
    name: str, finding: Finding, outcome: Outcome, settings: str, made: Mapping[str, Any]
) -> str:
    """The whole outcome, as it would stand in an appendix."""
    parts = [
        f"# {finding.title}",
        f"`{command_for_pages('reproduce', name)}`: **{outcome.verdict}**",
        f"Claim: {finding.claim}",
        f"Source: {finding.citation}",
        f"Rule, stated before training: {finding.rule}",
        "The paper's figures:",
        table(_published(finding)),
        "Here:",
        table(outcome.table),
        *([outcome.note] if outcome.note else []),
        *outcome.sentences,
        settings,
        "Made with:",
        *_about(made),
        "\n".join(f"- {key}: `{value}`" for key, value in flat(made)),
    ]
    return "\n\n".join(parts) + "\n"


def table(rows: pd.DataFrame) -> str:
    """A Markdown table."""
    header = [str(column) for column in rows.columns]
    lines = [header, ["---"] * len(header), *(_texts(row) for row in rows.itertuples(index=False))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _texts(row: Sequence[Any]) -> list[str]:
    return [str(value) for value in row]


def _published(finding: Finding) -> pd.DataFrame:
    return pd.DataFrame(
        {"what": figure.what, "the paper": figure.value, "where": figure.source}
        for figure in finding.published
    )


def _page(
    finding: Finding,
    measured: Measured,
    outcome: Outcome,
    settings: str,
    made: Mapping[str, Any],
) -> str:
    said = [
        f"Verdict: {outcome.verdict}.",
        f"The claim: {finding.claim}",
        f"The rule, stated before training: {finding.rule}",
        settings,
        *outcome.sentences,
    ]
    published = _published(finding)
    sections = [
        Section("Here", *_here(outcome.table), pinned=True, note=outcome.note),
        Section(
            "In the paper",
            list(published.columns),
            [[_in_lines(text) for text in row] for row in _cells(published)[1]],
            intro=finding.citation,
        ),
        Section(
            "Made with",
            ("what", "value"),
            _wrapped(flat(made)),
            folded=True,
            note=" ".join(_about(made)),
        ),
    ]
    plots = [_curves(panel_name, rows) for panel_name, rows in _panels(measured.curves)]
    return study_page(f"Claim: {finding.title}", said, plots, CAPTION if plots else "", sections)


def _about(made: Mapping[str, Any]) -> list[str]:
    return [SECONDS, *reservations(made)]


def _cells(rows: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    return [str(c) for c in rows.columns], [_texts(row) for row in rows.itertuples(index=False)]


def _here(rows: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Long cells in as many lines as they take."""
    header, lines = _cells(rows)
    return header, [[_in_lines(t) if len(t) > LONG else t for t in line] for line in lines]


def _wrapped(rows: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Long values in as many lines as they take."""
    return [[key, _in_lines(value)] for key, value in rows]


def _in_lines(text: str) -> Markup:
    return Markup('<div class="text">{}</div>').format(text)


def _panels(curves: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """One a corpus, where arms are called "corpus: arm"; without curves none."""
    if curves.empty:
        return []
    parts = curves.arm.str.partition(": ")
    named = parts[1] != ""
    corpus = parts[0].where(named, "")
    arms = parts[2].where(named, parts[0])
    split = curves.assign(arm=arms, corpus=corpus)
    return [(str(name), rows) for name, rows in split.groupby("corpus", sort=False)]


def _curves(corpus: str, rows: pd.DataFrame) -> Markup:
    title = f"top-1 recall, %{f' on {corpus}' if corpus else ''}"
    with house_style(title):
        figure, axes = panel(title, "round", right=140)
        labels = []
        for place, (arm, own) in enumerate(rows.groupby("arm", sort=False)):
            colour, line, mark = LOOKS[place % len(LOOKS)]
            by_round = 100 * own.groupby("round").top1.agg(["mean", "min", "max"])
            x, ink = by_round.index.to_numpy(), COLOURS[colour]
            marks = max(1, len(x) // 6)
            axes.plot(x, by_round["mean"], color=ink, linestyle=line, marker=mark, markevery=marks)
            axes.fill_between(
                x, by_round["min"], by_round["max"], color=ink, alpha=0.12, linewidth=0
            )
            labels.append((float(by_round["mean"].iloc[-1]), str(arm), ink))
        label_ends(axes, labels)
        return to_svg(figure, f"{title} by round, one line an arm")
